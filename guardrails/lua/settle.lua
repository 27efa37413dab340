-- Turns a hold into what was charged, once per call, or releases it.
--
-- KEYS  1 holds, 2 tombstone of this call, 3 … the subjects' counters, as at admission
-- ARGV  1 call id, 2 transaction that wrote the ledger row ('0' = none was charged),
--       3 recorded_at of the row in ms, 4 … the amount charged to each subject in nano-dollars
-- Returns 1; 0 where the call was settled before.
--
-- A counter was loaded from the ledger as one snapshot saw it. So a charge is added exactly if that
-- snapshot did not see its transaction: whoever loads, and whenever, nothing counts twice or never. While a counter
-- is missing or being loaded, the charge is noted for the load as well (load.lua).
if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
local record = redis.call('HGET', KEYS[1], ARGV[1])
local held = nil
if record then
    redis.call('HDEL', KEYS[1], ARGV[1])
    held = string.match(record, '^(%d+)|')
end
local transaction, recorded = tonumber(ARGV[2]), tonumber(ARGV[3])
local second = tonumber(redis.call('TIME')[1])
for i = 3, #KEYS do
    local counter = redis.call('HMGET', KEYS[i], 'snapshot', 'last_start', 'loading')
    local charged = ARGV[i + 1]
    local counts = transaction > 0 and charged ~= '0'
    -- A load that began long ago is given up: it will not be written.
    local loading = counter[3] and second - tonumber(counter[3]) / 1000 < 12
    if counts and (loading or not counter[1]) then
        redis.call('HSET', KEYS[i], 'n:' .. ARGV[1], ARGV[2] .. ':' .. ARGV[3] .. ':' .. charged)
    end
    if counter[1] then
        -- A free call holds 0, and '-0' is no integer to HINCRBY.
        if held and held ~= '0' then redis.call('HINCRBY', KEYS[i], 'held', '-' .. held) end
        if counts then
            if not visible(transaction, counter[1]) then redis.call('HINCRBY', KEYS[i], 'spent', charged) end
            -- A row recorded before a window began, settled after: it belongs to what was spent before.
            if counter[2] and recorded < tonumber(counter[2]) then
                local fields = redis.call('HGETALL', KEYS[i])
                local seen = {}
                for f = 1, #fields, 2 do seen[fields[f]] = fields[f + 1] end
                for field, snapshot in pairs(seen) do
                    local starts = string.match(field, '^s:(%d+)$')
                    if starts and recorded < tonumber(starts) and not visible(transaction, snapshot) then
                        redis.call('HINCRBY', KEYS[i], 'b:' .. starts, charged)
                    end
                end
            end
        end
    end
end
redis.call('SET', KEYS[2], '1', 'EX', 300)
return 1
