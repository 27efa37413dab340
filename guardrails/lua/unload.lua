-- Forgets what was loaded of one subject's counter, so that it is loaded again; what is held, running and counted by day stays.
-- A load under way counts no more: it may have read the ledger before what this is done for was written there.
--
-- KEYS  1 the subject's counter
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
    local kept = field == 'held' or field == 'held_own' or field == 'live'
    if not kept and string.sub(field, 1, 2) ~= 'n:' and string.sub(field, 1, 2) ~= 'q:' then redis.call('HDEL', KEYS[1], field) end
end
return 1
