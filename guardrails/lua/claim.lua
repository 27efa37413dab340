-- Claims the hold of a dead worker for whoever resolves it, so that the worker, should it wake up, gives out no answer.
--
-- KEYS  1 generation, 2 holds
-- ARGV  1 run id of the server asked, 2 token of the generation, 3 call id
-- Returns 1; 0 where nothing is held, or the row is in a spool: then whoever drains it settles the hold; -1 where the server
-- is new, empty or behind.
if redis.call('GET', KEYS[1]) ~= ARGV[1] .. ':' .. ARGV[2] then return -1 end
local record = redis.call('HGET', KEYS[2], ARGV[3])
local held, state, rest = string.match(record or '', '^(%d+|%d+)|(%a)(|.*)$')
if not held or state == 's' then return 0 end
redis.call('HSET', KEYS[2], ARGV[3], held .. '|c' .. rest)
return 1
