-- Notes that a worker has told the generation being prepared all it holds.
--
-- KEYS  1 next generation, 2 the set of workers that have
-- ARGV  1 run id of the server asked, 2 token, 3 worker
-- Returns the workers; none where another generation is being prepared by now.
local next = redis.call('HMGET', KEYS[1], 'run', 'token')
if next[1] ~= ARGV[1] or next[2] ~= ARGV[2] then return {} end
redis.call('SADD', KEYS[2], ARGV[3])
redis.call('EXPIRE', KEYS[2], 3600)
return redis.call('SMEMBERS', KEYS[2])
