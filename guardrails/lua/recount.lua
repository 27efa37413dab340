-- Makes what one subject's counter says is held and running what the holds say.
--
-- KEYS  1 holds, 2 the subject's counter
-- ARGV  1 the subject
-- Returns how many holds name the subject.
--
-- Amounts travel as text and are added by HINCRBY: numbers of Lua are doubles, exact to 2^53 only.
local holds, live = {}, 0
for _, record in ipairs(redis.call('HVALS', KEYS[1])) do
    local amount, own, state, lived, subjects = string.match(record, '^(%d+)|(%d+)|(%a)|[^|]*|[^|]*|[^|]*|([%d,]*)|[^|]*|([^|]*)|')
    local position, at = 0, nil
    for subject in string.gmatch(subjects or '', '[^,]+') do
        position = position + 1
        if subject == ARGV[1] then at = position end
    end
    if at then
        holds[#holds + 1] = {amount, own}
        -- A row in a spool is of a call that runs no longer (shrink.lua).
        if state ~= 's' and string.find(',' .. lived .. ',', ',' .. at .. ',', 1, true) then live = live + 1 end
    end
end
if #holds > 0 or redis.call('EXISTS', KEYS[2]) == 1 then redis.call('HSET', KEYS[2], 'held', '0', 'held_own', '0') end
for _, one in ipairs(holds) do hold(KEYS[2], '', one[1], one[2]) end
if live > 0 or redis.call('HEXISTS', KEYS[2], 'live') == 1 then redis.call('HSET', KEYS[2], 'live', live) end
return #holds
