-- Turns a hold into what was charged, once per call, or releases it.
--
-- KEYS  1 generation, 2 holds, 3 tombstone of this call, 4 … 3+S the subjects' counters as at admission, then S rate
--       counters where tokens are counted
-- ARGV  1 run id of the server asked, 2 token of the generation
--       3 call id, 4 transaction that wrote the ledger row ('0' = none was charged), 5 recorded_at of the row in ms,
--       6 tokens used ('' = as many as were reserved), 7 S, 8 … two amounts for each subject in nano-dollars:
--       charged, and cost by the list on the organisation's own provider keys
-- Returns 1; 0 where the call was settled before; -1 where the server is new, empty or behind.
--
-- A counter was loaded from the ledger as one snapshot saw it. So a charge is added exactly if that
-- snapshot did not see its transaction: whoever loads, and whenever, nothing counts twice or never. While a counter
-- is missing or being loaded, the charge is noted for the load as well (load.lua).
if redis.call('GET', KEYS[1]) ~= ARGV[1] .. ':' .. ARGV[2] then return -1 end
if redis.call('EXISTS', KEYS[3]) == 1 then return 0 end
local call, transaction, recorded, subjects = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[7])
local record = redis.call('HGET', KEYS[2], call)
local held, held_own, admitted, tokens, tokened, lived
if record then
    redis.call('HDEL', KEYS[2], call)
    held, held_own, admitted, tokens, tokened, lived = string.match(record, '^(%d+)|(%d+)|%a|(%d+)|(%d+)|([%d,]*)|([%d,]*)|')
    for subject in string.gmatch(lived, '%d+') do
        local key = KEYS[3 + tonumber(subject)]
        if redis.call('HEXISTS', key, 'live') == 1 then redis.call('HINCRBY', key, 'live', -1) end
    end
end
-- Tokens count in the second in which they were reserved, as many as were used in the end.
if tokened and tokened ~= '' and ARGV[6] ~= '' and #KEYS > 3 + subjects then
    local bucket = 't' .. math.floor(tonumber(admitted) / 1000)
    local excess = tonumber(ARGV[6]) - tonumber(tokens)
    for subject in string.gmatch(tokened, '%d+') do
        local key = KEYS[3 + subjects + tonumber(subject)]
        if redis.call('HEXISTS', key, bucket) == 1 then
            redis.call('HINCRBY', key, bucket, excess)
            redis.call('HINCRBY', key, 'tsum', excess)
        end
    end
end
local second = tonumber(redis.call('TIME')[1])
for i = 1, subjects do
    local key, charged, own = KEYS[3 + i], ARGV[6 + 2 * i], ARGV[7 + 2 * i]
    local counter = redis.call('HMGET', key, 'snapshot', 'last_start', 'loading', 'held')
    local counts = transaction > 0 and (charged ~= '0' or own ~= '0')
    -- A load that began long ago is given up: it will not be written.
    local loading = counter[3] and second - tonumber(counter[3]) / 1000 < 12
    if counts and (loading or not counter[1]) then
        redis.call('HSET', key, 'n:' .. call, table.concat({ARGV[4], ARGV[5], charged, own}, ':'))
    end
    if held and counter[4] then hold(key, '-', held, held_own) end
    if counter[1] and counts then
        if not visible(transaction, counter[1]) then charge(key, nil, charged, own) end
        -- A row recorded before a window began, settled after: it belongs to what was spent before.
        if counter[2] and recorded < tonumber(counter[2]) then
            local fields = redis.call('HGETALL', key)
            local seen = {}
            for f = 1, #fields, 2 do seen[fields[f]] = fields[f + 1] end
            for field, snapshot in pairs(seen) do
                local starts = string.match(field, '^s:(%d+)$')
                if starts and recorded < tonumber(starts) and not visible(transaction, snapshot) then
                    charge(key, starts, charged, own)
                end
            end
        end
    end
end
redis.call('SET', KEYS[3], '1', 'EX', 300)
return 1
