-- Sets a fresh epoch for each scope and takes a change's mark away. A client that sends it again, having heard no answer, brings
-- no epoch back: the time is part of it.
-- KEYS: epoch and dirty marks of each
-- ARGV: the change's token, which no other change has
local now = redis.call('TIME')
local fresh = ARGV[1] .. '.' .. now[1] .. '.' .. now[2] .. '.'
for i = 1, #KEYS, 2 do
    redis.call('SET', KEYS[i], fresh .. i)
    redis.call('HDEL', KEYS[i + 1], ARGV[1])
end
