-- Admits one call or changes nothing.
--
-- KEYS  1 epoch, 2 holds, 3 tombstone of this call, 4 … 3+S the subjects' counters, then S rate counters in the same order,
--       last the marks of changes under way (orgs/epoch.py)
-- ARGV  1 epoch the limits were compiled under
--       2 call id, 3 worst case in nano-dollars, 4 least amount to clamp to ('' = never clamp)
--       5 record to keep with the hold, 6 time limit of a transaction in seconds, 7 S = number of subjects,
--       8 MessagePack: a flat array of 5 words per limit, most specific limit first:
--       'b' or 'r', subject number, value, window start, window end (ms; '0' = no bound)
-- Replies
--   {'STALE'}                  compiled under another epoch, or a change was made and never announced
--   {'CLOSED'}                 the call was released before this command arrived
--   {'ROLLED', now}            a window is over: compile again
--   {'COLD', …}                per missing counter: subject number, window start ('' = the subject itself)
--   {'REFUSED', n, spent, held, now, retry_ms}   limit number n, first in effect (see below)
--   {'OK', now, amount, n, left, rn, rleft}      n/left: tightest budget and what is left of it,
--                                                rn/rleft: tightest rate; n = 0 where there is none
--
-- Numbers of Lua are doubles, exact to 2^53 only: amounts travel as text, and sums of larger ones are taken
-- in two limbs of nine digits.
local EXACT = 4503599627370496
local LIMB = 1000000000
local limits = cmsgpack.unpack(ARGV[8])

local function limbs(text)
    local negative = string.sub(text, 1, 1) == '-'
    if negative then text = string.sub(text, 2) end
    local high = tonumber(string.sub(text, 1, -10)) or 0
    local low = tonumber(string.sub(text, -9)) or 0
    if negative then return -high, -low end
    return high, low
end

local function limbs_left(limit, baseline, spent, held, amount)
    local ah, al = limbs(limit)
    local bh, bl = limbs(baseline)
    local ch, cl = limbs(spent)
    local dh, dl = limbs(held)
    local eh, el = limbs(amount)
    return ah + bh - ch - dh - eh, al + bl - cl - dl - el
end

-- limit + baseline - spent - held - amount. The sign is always right, the value exact below 2^52.
local function headroom(limit, baseline, spent, held, amount)
    local a, b, c, d, e = tonumber(limit), tonumber(baseline), tonumber(spent), tonumber(held), tonumber(amount)
    local most = EXACT / 8
    if a < most and b < most and c < most and d < most and e < most then return a + b - c - d - e end
    local high, low = limbs_left(limit, baseline, spent, held, amount)
    return high * LIMB + low
end

-- The same as text, exact for every amount.
local function exact(limit, baseline, spent, held, amount)
    local value = headroom(limit, baseline, spent, held, amount)
    if math.abs(value) < EXACT then return string.format('%.0f', value) end
    local high, low = limbs_left(limit, baseline, spent, held, amount)
    local sign = ''
    if value < 0 then high, low, sign = -high, -low, '-' end
    local carry = math.floor(low / LIMB)
    return string.format('%s%.0f%09.0f', sign, high + carry, low - carry * LIMB)
end

if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {'STALE'} end

local clock = redis.call('TIME')
local second = tonumber(clock[1])
local now = second * 1000 + math.floor(tonumber(clock[2]) / 1000)
-- A change whose process died between commit and announcement: reading the epoch again repairs it.
for _, marked in ipairs(redis.call('HVALS', KEYS[#KEYS])) do
    if second - tonumber(marked) > tonumber(ARGV[6]) then return {'STALE'} end
end
local subjects = tonumber(ARGV[7])

-- The command may come twice (a connection lost after it was sent), or after its caller gave up.
local again = redis.call('HGET', KEYS[2], ARGV[2])
if again then return {'OK', now, string.match(again, '^(%d+)|'), 0, '0', 0, 0} end
if redis.call('EXISTS', KEYS[3]) == 1 then return {'CLOSED'} end
local amount = ARGV[3]
local asked = tonumber(amount)

local cold = {'COLD'}
local spent, held = {}, {}
for i = 1, subjects do
    local counter = redis.call('HMGET', KEYS[3 + i], 'spent', 'held')
    if not counter[1] then
        cold[#cold + 1] = i
        cold[#cold + 1] = ''
    end
    spent[i], held[i] = counter[1], counter[2] or '0'
end

-- Requests of the last 60 seconds: one-second buckets and their running sum, pruned as time passes.
local function recent(key)
    local state = redis.call('HMGET', key, 'sum', 'pruned')
    if not state[1] then return 0 end
    local sum, pruned = tonumber(state[1]), tonumber(state[2])
    local horizon = second - 60
    if pruned >= horizon then return sum end
    if horizon - pruned > 120 then
        redis.call('DEL', key)
        return 0
    end
    for s = pruned + 1, horizon do
        local count = redis.call('HGET', key, s)
        if count then
            sum = sum - tonumber(count)
            redis.call('HDEL', key, s)
        end
    end
    redis.call('HSET', key, 'sum', sum, 'pruned', horizon)
    return sum
end

local tightest, left, tightest_rate, rate_left = 0, 0, 0, 0
local refused, refused_left, refused_rate
local rated = {}
local baselines = {}
local number = 0
for at = 1, #limits, 5 do
    number = number + 1
    local subject, value = tonumber(limits[at + 1]), limits[at + 2]
    if limits[at] == 'r' then
        local room = tonumber(value) - recent(KEYS[3 + subjects + subject])
        rated[subject] = true
        if tightest_rate == 0 or room < rate_left then tightest_rate, rate_left = number, room end
        if room < 1 and not refused_rate then refused_rate = number end
    else
        local starts, ends = limits[at + 3], tonumber(limits[at + 4])
        if ends > 0 and (now >= ends or now < tonumber(starts)) then return {'ROLLED', now} end
        local baseline = '0'
        if starts ~= '0' and spent[subject] then
            baseline = redis.call('HGET', KEYS[3 + subject], 'b:' .. starts)
            if not baseline then
                cold[#cold + 1] = subject
                cold[#cold + 1] = starts
            end
        end
        if spent[subject] and baseline then
            baselines[number] = baseline
            local room = headroom(value, baseline, spent[subject], held[subject], '0')
            if tightest == 0 or room < left then tightest, left = number, room end
            -- The budget with least room triggers first; on a tie the most specific, which comes first.
            local short = room < asked
            if room > EXACT then short = headroom(value, baseline, spent[subject], held[subject], amount) < 0 end
            if short and (not refused or room < refused_left) then refused, refused_left = number, room end
        end
    end
end
if #cold > 1 then return cold end

-- What is left of a budget after an amount.
local function remaining(limit, after)
    local at = 1 + (limit - 1) * 5
    local subject = tonumber(limits[at + 1])
    return exact(limits[at + 2], baselines[limit], spent[subject], held[subject], after)
end

if refused and ARGV[4] ~= '' and refused_left >= tonumber(ARGV[4]) then
    amount, refused = remaining(refused, '0'), nil
end
if refused then
    local subject = tonumber(limits[1 + (refused - 1) * 5 + 1])
    local used = exact(spent[subject], '0', baselines[refused], '0', '0')
    return {'REFUSED', refused, used, held[subject], now, 0}
end
if refused_rate then
    local subject = tonumber(limits[1 + (refused_rate - 1) * 5 + 1])
    local key = KEYS[3 + subjects + subject]
    local retry = 60000
    for s = second - 59, second do
        if redis.call('HEXISTS', key, s) == 1 then
            retry = (s + 60) * 1000 - now
            break
        end
    end
    return {'REFUSED', refused_rate, tostring(recent(key)), '0', now, retry}
end

for i = 1, subjects do redis.call('HINCRBY', KEYS[3 + i], 'held', amount) end
for subject in pairs(rated) do
    local key = KEYS[3 + subjects + subject]
    redis.call('HINCRBY', key, second, 1)
    redis.call('HINCRBY', key, 'sum', 1)
    redis.call('HSETNX', key, 'pruned', second - 60)
    redis.call('EXPIRE', key, 130)
end
redis.call('HSET', KEYS[2], ARGV[2], amount .. '|' .. now .. '|' .. ARGV[5])
local after, rate_after = '0', 0
if tightest > 0 then after = remaining(tightest, amount) end
if tightest_rate > 0 then rate_after = rate_left - 1 end
return {'OK', now, amount, tightest, after, tightest_rate, rate_after}
