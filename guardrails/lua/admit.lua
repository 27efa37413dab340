-- Admits one call or changes nothing.
--
-- KEYS  1 epoch, 2 holds, 3 tombstone of this call, 4 … 3+S the subjects' counters, then S rate counters in the same order
-- ARGV  1 epoch the limits were compiled under
--       2 call id, 3 worst case in nano-dollars, 4 least amount to clamp to ('' = never clamp)
--       5 record to keep with the hold, 6 S = number of subjects, then 5 words per limit:
--       'b' or 'r', subject number, value, window start, window end (ms; '0' = no bound)
--       Limits come most specific first.
-- Replies
--   {'STALE'}                  compiled under another epoch
--   {'CLOSED'}                 the call was released before this command arrived
--   {'ROLLED', now}            a window is over: compile again
--   {'COLD', …}                per missing counter: subject number, window start ('' = the subject itself)
--   {'REFUSED', n, spent, held, now, retry_ms}   limit number n, first in effect (see below)
--   {'OK', now, amount, n, left, rn, rleft}      n/left: tightest budget and what is left of it,
--                                                rn/rleft: tightest rate; n = 0 where there is none
--
-- Numbers of Lua are doubles, exact to 2^53 only: amounts travel as text, and differences of larger ones
-- are taken in two limbs of nine digits.
local EXACT = 4503599627370496

local function limbs(text)
    local negative = string.sub(text, 1, 1) == '-'
    if negative then text = string.sub(text, 2) end
    local high = tonumber(string.sub(text, 1, -10)) or 0
    local low = tonumber(string.sub(text, -9)) or 0
    if negative then return -high, -low end
    return high, low
end

-- limit + baseline - spent - held
local function headroom(limit, baseline, spent, held)
    local a, b, c, d = tonumber(limit), tonumber(baseline), tonumber(spent), tonumber(held)
    if a < EXACT / 4 and b < EXACT / 4 and c < EXACT / 4 and d < EXACT / 4 then return a + b - c - d end
    local ah, al = limbs(limit)
    local bh, bl = limbs(baseline)
    local ch, cl = limbs(spent)
    local dh, dl = limbs(held)
    return (ah + bh - ch - dh) * 1000000000 + (al + bl - cl - dl)
end

if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {'STALE'} end

local clock = redis.call('TIME')
local second = tonumber(clock[1])
local now = second * 1000 + math.floor(tonumber(clock[2]) / 1000)
local subjects = tonumber(ARGV[6])

-- The command may come twice (a connection lost after it was sent), or after its caller gave up.
local again = redis.call('HGET', KEYS[2], ARGV[2])
if again then return {'OK', now, string.match(again, '^(%d+)|'), 0, '0', 0, 0} end
if redis.call('EXISTS', KEYS[3]) == 1 then return {'CLOSED'} end
local amount = tonumber(ARGV[3])

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
local number = 0
for at = 7, #ARGV, 5 do
    number = number + 1
    local subject, value = tonumber(ARGV[at + 1]), ARGV[at + 2]
    if ARGV[at] == 'r' then
        local room = tonumber(value) - recent(KEYS[3 + subjects + subject])
        rated[subject] = true
        if tightest_rate == 0 or room < rate_left then tightest_rate, rate_left = number, room end
        if room < 1 and not refused_rate then refused_rate = number end
    else
        local starts, ends = ARGV[at + 3], tonumber(ARGV[at + 4])
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
            local room = headroom(value, baseline, spent[subject], held[subject])
            if tightest == 0 or room < left then tightest, left = number, room end
            -- The budget with least room triggers first; on a tie the most specific, which comes first.
            if room < amount and (not refused or room < refused_left) then
                refused, refused_left = number, room
            end
        end
    end
end
if #cold > 1 then return cold end

if refused and ARGV[4] ~= '' and refused_left >= tonumber(ARGV[4]) then
    amount, refused = refused_left, nil
end
if refused then
    local at = 7 + (refused - 1) * 5
    local subject = tonumber(ARGV[at + 1])
    local baseline = '0'
    if ARGV[at + 3] ~= '0' then baseline = redis.call('HGET', KEYS[3 + subject], 'b:' .. ARGV[at + 3]) end
    local used = -headroom('0', baseline, spent[subject], '0')
    return {'REFUSED', refused, string.format('%.0f', used), held[subject], now, 0}
end
if refused_rate then
    local subject = tonumber(ARGV[7 + (refused_rate - 1) * 5 + 1])
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

local hold = string.format('%.0f', amount)
for i = 1, subjects do redis.call('HINCRBY', KEYS[3 + i], 'held', hold) end
for subject in pairs(rated) do
    local key = KEYS[3 + subjects + subject]
    redis.call('HINCRBY', key, second, 1)
    redis.call('HINCRBY', key, 'sum', 1)
    redis.call('HSETNX', key, 'pruned', second - 60)
    redis.call('EXPIRE', key, 130)
end
redis.call('HSET', KEYS[2], ARGV[2], hold .. '|' .. now .. '|' .. ARGV[5])
return {'OK', now, hold, tightest, string.format('%.0f', left - amount), tightest_rate, rate_left - 1}
