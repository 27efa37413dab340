-- The generation being prepared becomes the one in force.
--
-- KEYS  1 generation, 2 next generation, 3 epoch of the catalogue
-- ARGV  1 run id of the server asked, 2 token, 3 a fresh epoch: the one that came back with old data may be one that some
--       worker still knows
-- Returns 1; 0 where another one is being prepared by now.
local next = redis.call('HMGET', KEYS[2], 'run', 'token')
if next[1] ~= ARGV[1] or next[2] ~= ARGV[2] then return 0 end
redis.call('SET', KEYS[1], ARGV[1] .. ':' .. ARGV[2])
redis.call('DEL', KEYS[2])
redis.call('SET', KEYS[3], ARGV[3])
return 1
