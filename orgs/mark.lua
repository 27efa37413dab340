-- Marks scopes dirty, by the clock that judges the mark.
-- KEYS: the dirty marks of each
-- ARGV: the change's token
local now = redis.call('TIME')[1]
for _, dirty in ipairs(KEYS) do
    redis.call('HSET', dirty, ARGV[1], now)
end
