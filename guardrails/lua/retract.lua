-- Takes back what assert.lua told: the call had been settled before, and its worker has heard of it only now.
--
-- KEYS  1 holds, 2 tombstone of the call, 3 … the subjects' counters
-- ARGV  1 call id
local record = redis.call('HGET', KEYS[1], ARGV[1])
if not record then return 0 end
redis.call('HDEL', KEYS[1], ARGV[1])
local amount, own, lived = string.match(record, '^(%d+)|(%d+)|%a|%d+|%d+|[%d,]*|([%d,]*)|')
for i = 3, #KEYS do hold(KEYS[i], '-', amount, own) end
for subject in string.gmatch(lived, '%d+') do redis.call('HINCRBY', KEYS[2 + tonumber(subject)], 'live', -1) end
return 1
