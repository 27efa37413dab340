-- Says that counters are about to be loaded: until that is done, settles leave a note of what they charge.
--
-- KEYS  the counters
-- Returns for each the moment in ms by which its load goes. Who comes while a young load is under way joins it: the
-- notes since then serve both, and the first to finish counts.
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local began = {}
for i, key in ipairs(KEYS) do
    local loading = redis.call('HGET', key, 'loading')
    if not loading or now - tonumber(loading) > 5000 then
        loading = string.format('%.0f', now)
        redis.call('HSET', key, 'loading', loading)
    end
    began[i] = loading
end
return began
