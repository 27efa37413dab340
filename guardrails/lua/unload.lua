-- Forgets what was loaded of one subject's counter, so that it is loaded again; what is held stays.
--
-- KEYS  1 the subject's counter
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
    if field ~= 'held' and field ~= 'loading' and string.sub(field, 1, 2) ~= 'n:' then redis.call('HDEL', KEYS[1], field) end
end
return 1
