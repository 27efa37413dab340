-- Claims the hold of a dead worker for whoever resolves it, so that the worker, should it wake up, gives out no answer.
--
-- KEYS  1 holds, 2 marks of spooled holds, 3 the claim
-- ARGV  1 call id, 2 seconds for which the claim is remembered
-- Returns 1; 0 where nothing is held, or the row is in a spool: then whoever drains it settles the hold.
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 or redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1 then return 0 end
redis.call('SET', KEYS[3], '1', 'EX', ARGV[2])
return 1
