-- Reads the epoch of a scope, and repairs it where a change was marked but its commit was never announced.
-- KEYS: epoch, dirty (hash: change token → second it was marked)
-- ARGV: a fresh epoch, the time limit of a transaction in seconds
-- Returns {epoch, "1" while a change is under way else "0"}
local now = tonumber(redis.call('TIME')[1])
local under_way = '0'
local expired = false
local marks = redis.call('HGETALL', KEYS[2])
for i = 1, #marks, 2 do
    if now - tonumber(marks[i + 1]) > tonumber(ARGV[2]) then
        redis.call('HDEL', KEYS[2], marks[i])
        expired = true
    else
        under_way = '1'
    end
end
local epoch = redis.call('GET', KEYS[1])
if expired or not epoch then
    epoch = ARGV[1]
    redis.call('SET', KEYS[1], epoch)
end
return {epoch, under_way}
