-- Takes one request and its estimated tokens from the minute that a deployment's provider grants, or nothing.
--
-- KEYS  1 the deployment's quota (proxy/health/keys.py)
-- ARGV  1 requests a minute ('' = unbounded), 2 tokens a minute ('' = unbounded), 3 tokens to take
-- Returns {1, second in which they were taken} or {0, ms until there is room}
--
-- The minute slides: sixty buckets of a second each (r and t with their second) and their running sums, as in
-- guardrails/lua/admit.lua. A request larger than the whole minute takes all of it.
local clock = redis.call('TIME')
local second = tonumber(clock[1])
local now = second * 1000 + math.floor(tonumber(clock[2]) / 1000)
local key = KEYS[1]

local function recent(name)
    local state = redis.call('HMGET', key, name .. 'sum', name .. 'pruned')
    if not state[1] then return 0 end
    local sum, pruned, horizon = tonumber(state[1]), tonumber(state[2]), second - 60
    if pruned >= horizon then return sum end
    for s = pruned + 1, math.min(horizon, pruned + 60) do
        local bucket = redis.call('HGET', key, name .. s)
        if bucket then
            sum = sum - tonumber(bucket)
            redis.call('HDEL', key, name .. s)
        end
    end
    redis.call('HSET', key, name .. 'sum', sum, name .. 'pruned', horizon)
    return sum
end

local function wait(name, excess)
    for s = second - 59, second do
        local bucket = redis.call('HGET', key, name .. s)
        if bucket then
            excess = excess - tonumber(bucket)
            if excess <= 0 then return (s + 60) * 1000 - now end
        end
    end
    return 60000
end

local taken, longest = {}, 0
for name, given in pairs({r = {ARGV[1], 1}, t = {ARGV[2], tonumber(ARGV[3])}}) do
    if given[1] ~= '' then
        local most = tonumber(given[1])
        local amount = math.min(given[2], most)
        local excess = recent(name) + amount - most
        if excess > 0 then longest = math.max(longest, wait(name, excess)) end
        taken[name] = amount
    end
end
if longest > 0 then return {0, longest} end
for name, amount in pairs(taken) do
    redis.call('HINCRBY', key, name .. second, amount)
    redis.call('HINCRBY', key, name .. 'sum', amount)
    redis.call('HSETNX', key, name .. 'pruned', second - 60)
end
redis.call('EXPIRE', key, 130)
return {1, second}
