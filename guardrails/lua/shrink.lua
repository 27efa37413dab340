-- Shrinks a hold to what its call costs, once its row is in a spool, and marks it: no resolver takes it for abandoned.
--
-- KEYS  1 holds, 2 marks of spooled holds, 3 claim of a resolver on this call, 4 … the subjects' counters
-- ARGV  1 call id, 2 the exact cost in nano-dollars
-- Returns 1; 0 where nothing is held any more, or somebody has claimed it: then the call is closed for nothing.
local record = redis.call('HGET', KEYS[1], ARGV[1])
if not record or redis.call('EXISTS', KEYS[3]) == 1 then return 0 end
local held, rest = string.match(record, '^(%d+)(|.*)$')
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. rest)
redis.call('HSET', KEYS[2], ARGV[1], '1')
for i = 4, #KEYS do
    -- Two steps, as text: the difference as a number would be exact to 2^53 only. '-0' is no integer to HINCRBY.
    if held ~= '0' then redis.call('HINCRBY', KEYS[i], 'held', '-' .. held) end
    redis.call('HINCRBY', KEYS[i], 'held', ARGV[2])
end
return 1
