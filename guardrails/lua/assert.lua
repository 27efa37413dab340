-- Tells a generation being prepared of one hold that an earlier one knew.
--
-- KEYS  1 holds, 2 tombstone of the call, 3 … the subjects' counters
-- ARGV  1 call id, 2 the hold's record
-- Returns 1; 0 where it was told before, or where the generation came into force meanwhile and the call was settled.
-- Rates began anew, so its tokens are counted nowhere: nor are they corrected.
local amount, own, times, lived, rest = string.match(ARGV[2], '^(%d+)|(%d+)(|%a|%d+|%d+|)[%d,]*|([%d,]*)(|.*)$')
if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
if redis.call('HSETNX', KEYS[1], ARGV[1], amount .. '|' .. own .. times .. '|' .. lived .. rest) == 0 then return 0 end
for i = 3, #KEYS do hold(KEYS[i], '', amount, own) end
for subject in string.gmatch(lived, '%d+') do redis.call('HINCRBY', KEYS[2 + tonumber(subject)], 'live', 1) end
return 1
