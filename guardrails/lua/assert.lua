-- Tells a generation being prepared of one hold that an earlier one knew.
--
-- KEYS  1 holds, 2 … the subjects' counters
-- ARGV  1 call id, 2 the hold's record
-- Returns 1; 0 where it was told before.
if redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2]) == 0 then return 0 end
local amount, lived = string.match(ARGV[2], '^(%d+)|%a|%d+|%d+|[%d,]*|([%d,]*)|')
for i = 2, #KEYS do redis.call('HINCRBY', KEYS[i], 'held', amount) end
for subject in string.gmatch(lived, '%d+') do redis.call('HINCRBY', KEYS[1 + tonumber(subject)], 'live', 1) end
return 1
