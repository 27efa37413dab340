-- Shared by all scripts that hold, release or charge. Every amount has two sorts: what the credit pool pays, and what calls on
-- the organisation's own provider keys cost by the list, which budgets count only where they say so.
--
-- held       everything that running calls hold; held_own the part of it that can only be spent on own keys
-- spent, b:  charged in all, and before a window; own, o: the same of what calls on own keys cost
--
-- Amounts are text, and '-0' is no integer to HINCRBY.
local function hold(key, sign, amount, own)
    if amount ~= '0' then redis.call('HINCRBY', key, 'held', sign .. amount) end
    if own ~= '0' then redis.call('HINCRBY', key, 'held_own', sign .. own) end
end

-- Adds to all that was spent, or with the start of a window to what was spent before it.
local function charge(key, starts, charged, own)
    if charged ~= '0' then redis.call('HINCRBY', key, starts and 'b:' .. starts or 'spent', charged) end
    if own ~= '0' then redis.call('HINCRBY', key, starts and 'o:' .. starts or 'own', own) end
end
