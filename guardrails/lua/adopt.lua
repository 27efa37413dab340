-- Brings the generation in force into reach of an organisation's scripts, with a fresh epoch: an epoch that came back with
-- old data may be one that some worker still knows.
--
-- KEYS  1 the organisation's generation, 2 its epoch, 3 generation
-- ARGV  1 run id of the server asked, 2 token of the generation, 3 a fresh epoch
-- Returns 1; 0 where that generation is not in force here: the server was emptied or started anew, and what somebody
-- still takes for the generation must not become the organisation's again.
local generation = ARGV[1] .. ':' .. ARGV[2]
if redis.call('GET', KEYS[3]) ~= generation then return 0 end
if redis.call('GET', KEYS[1]) ~= generation then
    redis.call('SET', KEYS[1], generation)
    redis.call('SET', KEYS[2], ARGV[3])
end
return 1
