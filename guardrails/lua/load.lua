-- Fills one subject's missing counters with what the ledger says. The first to load wins.
--
-- KEYS  1 the subject's counter
-- ARGV  1 spent in nano-dollars, 2 snapshot, then per window: start in ms, spent before it
--
-- Fields: spent (lifetime), snapshot (what `spent` was loaded at), held, last_start, and per window
-- b:<start> (spent when the window began) and s:<start> (the snapshot of that figure).
redis.call('HSETNX', KEYS[1], 'held', '0')
if redis.call('HSETNX', KEYS[1], 'spent', ARGV[1]) == 1 then
    redis.call('HSET', KEYS[1], 'snapshot', ARGV[2])
end
local wanted = {}
local last = tonumber(redis.call('HGET', KEYS[1], 'last_start') or '0')
for at = 3, #ARGV, 2 do
    local starts = ARGV[at]
    wanted[starts] = true
    if redis.call('HSETNX', KEYS[1], 'b:' .. starts, ARGV[at + 1]) == 1 then
        redis.call('HSET', KEYS[1], 's:' .. starts, ARGV[2])
    end
    if tonumber(starts) > last then last = tonumber(starts) end
end
redis.call('HSET', KEYS[1], 'last_start', string.format('%.0f', last))
-- Baselines of windows long over: kept a year, for whoever still compiles an older one.
local fields = redis.call('HKEYS', KEYS[1])
for _, field in ipairs(fields) do
    local starts = string.match(field, '^b:(%d+)$')
    if starts and not wanted[starts] and tonumber(starts) < last - 31622400000 then
        redis.call('HDEL', KEYS[1], field, 's:' .. starts)
    end
end
return 1
