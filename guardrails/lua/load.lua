-- Fills one subject's missing counters with what the ledger says. The first to load a figure wins.
--
-- KEYS  1 the subject's counter
-- ARGV  1 the moment begin_load.lua gave, before the ledger was read
--       2 spent in nano-dollars, 3 the same on own provider keys, 4 snapshot, then per window four words: b, its start in ms,
--       spent before it, the same on own provider keys; or q, the start of a day in ms, calls admitted since, nothing
-- Returns 1; 0 where another load has finished since, or this one took too long: then nothing was written.
--
-- Fields: spent and own (lifetime; amounts.lua), snapshot (what these were loaded at), held, held_own, last_start, and per
-- window b:<start> and o:<start> (what they were when it began) and s:<start> (the snapshot of that); q:<start> (calls admitted in a day
-- whose number is limited) and live (calls running, where that is); loading and n:<call> while a load is under way.
--
-- A call may commit after the ledger was read and settle before its figures arrive here. Its settle finds nothing
-- to add to, so it leaves a note, which is added now, by the same rule: exactly if the snapshot did not see it.
local key, snapshot = KEYS[1], ARGV[4]
if redis.call('HGET', key, 'loading') ~= ARGV[1] then return 0 end
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
if now - tonumber(ARGV[1]) > 10000 then return 0 end

local old, notes = {}, {}
local fields = redis.call('HGETALL', key)
for at = 1, #fields, 2 do
    local starts = string.match(fields[at], '^b:(%d+)$')
    if starts then old[#old + 1] = starts end
    if string.sub(fields[at], 1, 2) == 'n:' then
        local transaction, recorded, charged, own = string.match(fields[at + 1], '^(%d+):(%d+):(-?%d+):(-?%d+)$')
        if not visible(tonumber(transaction), snapshot) then
            notes[#notes + 1] = {recorded = tonumber(recorded), charged = charged, own = own}
        end
        redis.call('HDEL', key, fields[at])
    end
end

redis.call('HSETNX', key, 'held', '0')
if redis.call('HSETNX', key, 'spent', ARGV[2]) == 1 then
    redis.call('HSET', key, 'own', ARGV[3], 'snapshot', snapshot)
    for _, note in ipairs(notes) do charge(key, nil, note.charged, note.own) end
end
local wanted = {}
local last = tonumber(redis.call('HGET', key, 'last_start') or '0')
for at = 5, #ARGV, 4 do
    local kind, starts, value = ARGV[at], ARGV[at + 1], ARGV[at + 2]
    if kind == 'q' then
        -- Of days long over nobody asks again.
        for f = 1, #fields, 2 do
            local day = string.match(fields[f], '^q:(%d+)$')
            if day and tonumber(day) < tonumber(starts) - 172800000 then redis.call('HDEL', key, fields[f]) end
        end
        redis.call('HSETNX', key, 'q:' .. starts, value)
    else
        wanted[starts] = true
        if redis.call('HSETNX', key, 'b:' .. starts, value) == 1 then
            redis.call('HSET', key, 'o:' .. starts, ARGV[at + 3], 's:' .. starts, snapshot)
            for _, note in ipairs(notes) do
                if note.recorded < tonumber(starts) then charge(key, starts, note.charged, note.own) end
            end
        end
        if tonumber(starts) > last then last = tonumber(starts) end
    end
end
redis.call('HSET', key, 'last_start', string.format('%.0f', last))
redis.call('HDEL', key, 'loading')
-- Baselines of windows long over: kept a year, for whoever still compiles an older one.
for _, starts in ipairs(old) do
    if not wanted[starts] and tonumber(starts) < last - 31622400000 then
        redis.call('HDEL', key, 'b:' .. starts, 'o:' .. starts, 's:' .. starts)
    end
end
return 1
