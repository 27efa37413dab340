-- Adds rows that reached the ledger without a hold to one subject's counter, once per transaction.
--
-- KEYS  1 the subject's counter; it exists
-- ARGV  per sum of rows: transaction that wrote them, latest recorded_at in ms, nano-dollars charged to the subject,
--       the same on own provider keys
-- Returns how many of the sums were added.
--
-- As in settle.lua, what a snapshot saw is in the figure already. `x:<transaction>` remembers what was added since, so
-- that telling twice adds nothing; a counter that is loaded again begins with a snapshot that saw the rows.
local snapshot = redis.call('HGET', KEYS[1], 'snapshot')
local windows = {}
local fields = redis.call('HGETALL', KEYS[1])
for at = 1, #fields, 2 do
    local starts = string.match(fields[at], '^s:(%d+)$')
    if starts then windows[starts] = fields[at + 1] end
end
local fresh, added = {}, 0
for at = 1, #ARGV, 4 do
    local transaction, recorded, charged, own = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), ARGV[at + 2], ARGV[at + 3]
    if fresh[transaction] == nil then
        fresh[transaction] = redis.call('HSETNX', KEYS[1], 'x:' .. ARGV[at], '1') == 1
    end
    if fresh[transaction] then
        if not visible(transaction, snapshot) then
            charge(KEYS[1], nil, charged, own)
            added = added + 1
        end
        for starts, seen in pairs(windows) do
            if recorded < tonumber(starts) and not visible(transaction, seen) then
                charge(KEYS[1], starts, charged, own)
            end
        end
    end
end
return added
