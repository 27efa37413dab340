-- Begins a generation where this server has none that is valid, or joins the one being prepared.
--
-- KEYS  1 generation, 2 next generation
-- ARGV  1 run id of the server asked, 2 a fresh token, 3 what tokens begin with whose counters are of this version's layout
-- Returns {'CURRENT', run id, token}, or {'NEXT', run id, token, its age in ms}.
local function is_valid(run, token) return run == ARGV[1] and string.sub(token, 1, #ARGV[3]) == ARGV[3] end
local run, token = string.match(redis.call('GET', KEYS[1]) or '', '^(%w+):(%w+)$')
if is_valid(run, token) then return {'CURRENT', run, token} end
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local next = redis.call('HMGET', KEYS[2], 'run', 'token', 'since')
if not is_valid(next[1], next[2]) then
    redis.call('HSET', KEYS[2], 'run', ARGV[1], 'token', ARGV[2], 'since', string.format('%.0f', now))
    return {'NEXT', ARGV[1], ARGV[2], 0}
end
return {'NEXT', next[1], next[2], now - tonumber(next[3])}
