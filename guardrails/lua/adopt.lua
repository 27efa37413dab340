-- Brings the generation in force into reach of an organisation's scripts, with a fresh epoch: an epoch that came back with
-- old data may be one that some worker still knows.
--
-- KEYS  1 the organisation's generation, 2 its epoch
-- ARGV  1 run id of the server asked, 2 run id that the generation was found valid for, 3 its token, 4 a fresh epoch
-- Returns 1; 0 where the server was started anew meanwhile.
if ARGV[1] ~= ARGV[2] then return 0 end
local generation = ARGV[2] .. ':' .. ARGV[3]
if redis.call('GET', KEYS[1]) ~= generation then
    redis.call('SET', KEYS[1], generation)
    redis.call('SET', KEYS[2], ARGV[4])
end
return 1
