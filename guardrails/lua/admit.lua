-- Admits one call or changes nothing.
--
-- KEYS  1 epoch, 2 generation, 3 holds, 4 tombstone of this call, 5 … 4+S the subjects' counters, then S rate counters in
--       the same order where any limit is one of rates, last the marks of changes under way (orgs/epoch.py)
-- ARGV  1 epoch the limits were compiled under, 2 run id of the server asked, 3 token of the generation
--       4 call id, 5 worst case in nano-dollars, 6 least amount to clamp to ('' = never clamp)
--       7 tokens to reserve, 8 '1' where the call may be sent to a cheaper model instead
--       9 the rest of the record to keep with the hold (guardrails/counters.py), 10 time limit of a transaction in seconds, 11 S = number of subjects,
--       12 '1' where the call can only be served on the organisation's own provider keys: then budgets of kind b are not asked
--       13 MessagePack, one word after another. Start and end of the time that all limits hold for (ms; end 0 = no bound), whether an
--          amount among them is large (below), how many limits there are, then 5 words for each, most specific first: kind
--          (b budget, w budget that counts calls on own provider keys as well, r requests and t tokens per minute, d requests per day, p parallel calls),
--          subject number, value, what of a budget may be used with this call (false = all), else it is sent to a cheaper model,
--          position of what it counts among the fields of its subject (0 = none). Then for each subject how many fields these are, and their names:
--          of a budget's window two (b: and o:, lua/load.lua), of a day one (q:), of parallel calls one (live)
-- Replies
--   {'GENERATION'}             the server is new, empty or behind: what it counted is worth nothing
--   {'STALE'}                  compiled under another epoch, or a change was made and never announced
--   {'CLOSED'}                 the call was released before this command arrived
--   {'FULL'}                   with this call more would be held than a counter can count
--   {'ROLLED', now}            a window or an override is over: compile again
--   {'COLD', …}                positions of subjects of which something is missing
--   {'DEGRADE', n}             limit number n is near its cap
--   {'REFUSED', n, used, held, now, retry_ms}   limit number n, first in effect (see below); retry_ms is 0 of a budget and of a day,
--                              which are free again when their time is over
--   {'OK', now, amount, n, left, rn, rleft, tn, tleft}   n/left: tightest budget and what is left of it,
--                              rn/rleft and tn/tleft: tightest rate of requests and of tokens; 0 where there is none
--
-- Numbers of Lua are doubles, exact to 2^53 only: amounts travel as text, and where any of them is large, of more than
-- 15 digits, sums are taken in two limbs of nine digits.
local EXACT = 4503599627370496
local MOST_COUNTED = '9223372036854775807'
local LIMB = 1000000000
local DIGITS = 15
local FIRST, WORDS = 5, 5
local call, worst, least, tokens = ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7])
local asked = tonumber(worst)
local may_degrade, record = ARGV[8] == '1', ARGV[9]
local subjects = tonumber(ARGV[11])
local own_only = ARGV[12] == '1'
-- One table of its final size: one of many tables, or one that grows, takes as long as half of the judging.
local limits = {cmsgpack.unpack(ARGV[13])}
local starts, ends, large = limits[1], limits[2], limits[3] or #worst > DIGITS
local last = FIRST - 1 + limits[4] * WORDS

local function limbs(text)
    if type(text) == 'number' then text = string.format('%.0f', text) end
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

-- limit + baseline - spent - held - amount. The sign is always right, the value exact below 2^52; where any is large, its limbs.
local function headroom(limit, baseline, spent, held, amount)
    if not large then return limit + baseline - spent - held - amount end
    local high, low = limbs_left(limit, baseline, spent, held, amount)
    return high * LIMB + low, high, low
end

-- Whether one headroom is less than another, exact for every amount.
local function less(room, high, low, other, other_high, other_low)
    if not large then return room < other end
    return (high - other_high) * LIMB + low - other_low < 0
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

local known = redis.call('MGET', KEYS[1], KEYS[2], KEYS[4])
if known[2] ~= ARGV[2] .. ':' .. ARGV[3] then return {'GENERATION'} end
if known[1] ~= ARGV[1] then return {'STALE'} end
if known[3] then return {'CLOSED'} end

local clock = redis.call('TIME')
local second = tonumber(clock[1])
local now = second * 1000 + math.floor(tonumber(clock[2]) / 1000)
-- A change whose process died between commit and announcement: reading the epoch again repairs it.
for _, marked in ipairs(redis.call('HVALS', KEYS[#KEYS])) do
    if second - tonumber(marked) > tonumber(ARGV[10]) then return {'STALE'} end
end

-- The command may come twice (a connection lost after it was sent), or after its caller gave up: what holds already is
-- answered with its hold, whatever would be said of it now.
local function unless_held(reply)
    local again = redis.call('HGET', KEYS[3], call)
    if again then return {'OK', now, string.match(again, '^(%d+)|'), 0, '0', 0, 0, 0, 0} end
    return reply
end

if ends > 0 and (now >= ends or now < starts) then return unless_held({'ROLLED', now}) end

-- Everything a subject counts comes in one read: four figures, then those of its windows.
local SPENT, HELD, OWN, HELD_OWN, FIGURES = 1, 2, 3, 4, 4
local cold, counted, names = {}, {}, {}
local at = last + 1
for i = 1, subjects do
    local fields = limits[at]
    local counter = redis.call('HMGET', KEYS[4 + i], 'spent', 'held', 'own', 'held_own', unpack(limits, at + 1, at + fields))
    if not counter[SPENT] then cold[i] = true end
    for figure = 1, FIGURES + fields do
        local amount = counter[figure]
        if amount and #amount > DIGITS then large = true end
    end
    counted[i], names[i] = counter, at
    at = at + 1 + fields
end

local function rates(subject) return KEYS[4 + subjects + subject] end

-- What a rate counted: of requests with the prefix '', of tokens with 't'. One-second buckets (the prefix and their second),
-- their running sum, and the second up to which those older than a minute were taken out.
local function pruned(key, prefix, sum, before)
    if not sum then return 0 end
    sum, before = tonumber(sum), tonumber(before)
    local horizon = second - 60
    if before >= horizon then return sum end
    -- Nothing is counted later than a minute after the last pruning: admission prunes before it counts.
    for s = before + 1, math.min(horizon, before + 60) do
        local count = redis.call('HGET', key, prefix .. s)
        if count then
            sum = sum - tonumber(count)
            redis.call('HDEL', key, prefix .. s)
        end
    end
    redis.call('HSET', key, prefix .. 'sum', sum, prefix .. 'pruned', horizon)
    return sum
end

-- By subject: the sums of requests and tokens of the last 60 seconds, and both buckets of this second.
local seen = {}
local function recent(subject)
    if not seen[subject] then
        local key = rates(subject)
        local found = redis.call('HMGET', key, 'sum', 'pruned', 'tsum', 'tpruned', second, 't' .. second)
        seen[subject] = {pruned(key, '', found[1], found[2]), pruned(key, 't', found[3], found[4]), found[5], found[6], found[2], found[4]}
    end
    return seen[subject]
end

-- How long until so much has left the last minute.
local function wait(key, prefix, excess)
    for s = second - 59, second do
        local bucket = redis.call('HGET', key, prefix .. s)
        if bucket then
            excess = excess - tonumber(bucket)
            if excess <= 0 then return (s + 60) * 1000 - now end
        end
    end
    return 60000
end

local tightest, left, tightest_rate, rate_left, tightest_tokens, tokens_left = 0, 0, 0, 0, 0, 0
local left_high, left_low, refused_high, refused_low
local refused, refused_left, refused_rate, degrade
local rated, tokened, tallied = {}, {}, {d = {}, p = {}}

-- What a budget counts as its baseline, as spent and as held; nil where its window is not loaded.
-- One that counts calls on own keys counts everything; any other leaves out what they cost and hold.
local function budget(subject, window, counts_own)
    local counter = counted[subject]
    local baseline, own_baseline = 0, '0'
    if window > 0 then baseline, own_baseline = counter[FIGURES + window], counter[FIGURES + window + 1] or '0' end
    if not baseline or not counter[SPENT] then return nil end
    local spent, held, own, held_own = counter[SPENT], counter[HELD] or '0', counter[OWN] or '0', counter[HELD_OWN] or '0'
    if not counts_own then
        if held_own ~= '0' then held = exact(held, 0, held_own, 0, 0) end
    elseif own ~= '0' or own_baseline ~= '0' then
        baseline = exact(baseline, own_baseline, 0, 0, 0)
        spent = exact(spent, own, 0, 0, 0)
    end
    return baseline, spent, held
end

local function judge_budget(number, subject, value, near, window, counts_own)
    local baseline, spent, held = budget(subject, window, counts_own)
    if not baseline then
        cold[subject] = true
        return
    end
    if own_only and not counts_own then return end
    local room, high, low = headroom(value, baseline, spent, held, 0)
    if tightest == 0 or less(room, high, low, left, left_high, left_low) then
        tightest, left, left_high, left_low = number, room, high, low
    end
    -- The budget with least room triggers first; on a tie the most specific, which comes first.
    local short = room < asked
    if room > EXACT then short = headroom(value, baseline, spent, held, worst) < 0 end
    if short and (not refused or less(room, high, low, refused_left, refused_high, refused_low)) then
        refused, refused_left, refused_high, refused_low = number, room, high, low
    end
    if near and not degrade and headroom(near, baseline, spent, held, worst) < 0 then degrade = number end
end

-- What a day or the calls running have counted; nil where it is not loaded. Nobody loads what is running now.
local function so_far(subject, kind, window)
    local number = counted[subject][FIGURES + window]
    if not number and kind == 'p' then return 0 end
    return number and tonumber(number)
end

-- Whether a limit that is no budget has room for this call.
local function has_room(number, kind, subject, value, window)
    if kind == 'r' then
        local room = value - recent(subject)[1]
        rated[subject] = true
        if tightest_rate == 0 or room < rate_left then tightest_rate, rate_left = number, room end
        return room >= 1
    elseif kind == 't' then
        local room = value - recent(subject)[2]
        tokened[subject] = true
        if tightest_tokens == 0 or room < tokens_left then tightest_tokens, tokens_left = number, room end
        return room >= tokens
    end
    local so_many = so_far(subject, kind, window)
    if not so_many then
        cold[subject] = true
        return true
    end
    tallied[kind][subject] = limits[names[subject] + window]
    return so_many < value
end

local number = 0
for at = FIRST, last, WORDS do
    number = number + 1
    local kind, subject, value, near, window = limits[at], limits[at + 1], limits[at + 2], limits[at + 3], limits[at + 4]
    if kind == 'b' or kind == 'w' then
        judge_budget(number, subject, value, near, window, kind == 'w')
    elseif not has_room(number, kind, subject, value, window) and not refused_rate then
        refused_rate = number
    end
end
if next(cold) then
    local reply = {'COLD'}
    for subject in pairs(cold) do reply[#reply + 1] = subject end
    return unless_held(reply)
end
if degrade and may_degrade then return unless_held({'DEGRADE', degrade}) end

-- Kind, subject, value and position of a limit.
local function words_of(limit)
    local at = FIRST + (limit - 1) * WORDS
    return limits[at], limits[at + 1], limits[at + 2], limits[at + 4]
end

-- What is left of a budget after an amount.
local function remaining(limit, after)
    local kind, subject, value, window = words_of(limit)
    local baseline, spent, held = budget(subject, window, kind == 'w')
    return exact(value, baseline, spent, held, after)
end

if refused and least ~= '' and refused_left >= tonumber(least) then
    worst, refused = remaining(refused, 0), nil
end
if refused then
    local kind, subject, _, window = words_of(refused)
    local baseline, spent, held = budget(subject, window, kind == 'w')
    return unless_held({'REFUSED', refused, exact(spent, 0, baseline, 0, 0), held, now, 0})
end
if refused_rate then
    local kind, subject, value, window = words_of(refused_rate)
    local used, retry = 0, 0
    if kind == 'r' then
        used = recent(subject)[1]
        retry = wait(rates(subject), '', used + 1 - value)
    elseif kind == 't' then
        used = recent(subject)[2]
        retry = wait(rates(subject), 't', used + tokens - value)
    else
        used = so_far(subject, kind, window)
        if kind == 'p' then retry = 1000 end
    end
    return unless_held({'REFUSED', refused_rate, string.format('%.0f', used), '0', now, retry})
end

-- No budget need bound what own provider keys hold, and HINCRBY that overflows would end this script half done.
if large then
    for i = 1, subjects do
        if headroom(MOST_COUNTED, 0, 0, counted[i][HELD] or '0', worst) < 0 then return unless_held({'FULL'}) end
    end
end

local worst_own = own_only and worst or '0'
if redis.call('HSETNX', KEYS[3], call, table.concat({worst, worst_own, 'r', now, tokens, record}, '|')) == 0 then return unless_held() end
for i = 1, subjects do hold(KEYS[4 + i], '', worst, worst_own) end
for _, fields in pairs(tallied) do
    for subject, field in pairs(fields) do redis.call('HINCRBY', KEYS[4 + subject], field, 1) end
end

-- Counts one request, or so many tokens, in this second.
local function count(words, prefix, amount, sum, bucket, before)
    local at = #words
    words[at + 1], words[at + 2] = prefix .. second, tonumber(bucket or 0) + amount
    words[at + 3], words[at + 4] = prefix .. 'sum', sum + amount
    if not before then words[at + 5], words[at + 6] = prefix .. 'pruned', second - 60 end
end
for subject, rate in pairs(seen) do
    local words = {}
    if rated[subject] then count(words, '', 1, rate[1], rate[3], rate[5]) end
    if tokened[subject] then count(words, 't', tokens, rate[2], rate[4], rate[6]) end
    redis.call('HSET', rates(subject), unpack(words))
    if not (rate[3] or rate[4]) then redis.call('EXPIRE', rates(subject), 130) end
end

local after = 0
if tightest > 0 then
    after = left - tonumber(worst)
    if math.abs(left) >= EXACT then after = remaining(tightest, worst) end
end
if tightest_rate > 0 then rate_left = rate_left - 1 end
if tightest_tokens > 0 then tokens_left = tokens_left - tokens end
return {'OK', now, worst, tightest, after, tightest_rate, rate_left, tightest_tokens, tokens_left}
