-- Shrinks a hold to what its call costs, once its row is in a spool: no resolver takes it for abandoned any more.
--
-- KEYS  1 generation, 2 holds, 3 … the subjects' counters
-- ARGV  1 run id of the server asked, 2 token of the generation, 3 call id, 4 the exact cost in nano-dollars, 5 the part of
--       it on own provider keys
-- Returns the hold's new record (guardrails/counters.py); '' where nothing is held, or a resolver has claimed it: then the
-- call is closed for nothing; -1 where the server is new, empty or behind.
if redis.call('GET', KEYS[1]) ~= ARGV[1] .. ':' .. ARGV[2] then return -1 end
local call, cost, cost_own = ARGV[3], ARGV[4], ARGV[5]
local record = redis.call('HGET', KEYS[2], call)
local held, held_own, state, reserved, lived, rest = string.match(record or '', '^(%d+)|(%d+)|(%a)|(%d+|%d+|[%d,]*)|([%d,]*)(|.*)$')
if not held or state == 'c' then return '' end
-- The call runs no longer: whoever waits for its place may have it.
record = cost .. '|' .. cost_own .. '|s|' .. reserved .. '|' .. rest
redis.call('HSET', KEYS[2], call, record)
for subject in string.gmatch(lived, '%d+') do redis.call('HINCRBY', KEYS[2 + tonumber(subject)], 'live', -1) end
for i = 3, #KEYS do
    -- Two steps, as text: the difference as a number would be exact to 2^53 only.
    hold(KEYS[i], '-', held, held_own)
    hold(KEYS[i], '', cost, cost_own)
end
return record
