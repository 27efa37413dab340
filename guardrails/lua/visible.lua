-- Shared by settle.lua, load.lua and late.lua: whether a transaction is in what a snapshot saw (the text of pg_snapshot,
-- xmin:xmax:running; https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-PG-SNAPSHOT).
local function visible(transaction, snapshot)
    local low, high, running = string.match(snapshot, '^(%d+):(%d+):(.*)$')
    if transaction < tonumber(low) then return true end
    if transaction >= tonumber(high) then return false end
    for id in string.gmatch(running, '%d+') do
        if tonumber(id) == transaction then return false end
    end
    return true
end

