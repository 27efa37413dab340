-- Admits one call or changes nothing.
--
-- KEYS  1 epoch, 2 generation, 3 holds, 4 tombstone of this call, 5 … 4+S the subjects' counters, then S rate counters in
--       the same order where any limit is one of rates, last the marks of changes under way (orgs/epoch.py)
-- ARGV  1 epoch the limits were compiled under, 2 run id of the server asked, 3 token of the generation
--       4 call id, 5 worst case in nano-dollars, 6 least amount to clamp to ('' = never clamp)
--       7 tokens to reserve, 8 '1' where the call may be sent to a cheaper model instead
--       9 the rest of the record to keep with the hold (guardrails/counters.py), 10 time limit of a transaction in seconds, 11 S = number of subjects,
--       12 '1' where the call can only be served on the organisation's own provider keys: then budgets of kind b are not asked
--       13 MessagePack: a flat array of 6 words per limit, most specific limit first: kind
--          (b budget, w budget that counts calls on own provider keys as well, r requests and t tokens per minute, d requests per day, p parallel calls),
--          subject number, value, start and end of the time it holds for (ms; '0' = no bound),
--          what of a budget may be used with this call ('' = all), else it is sent to a cheaper model
-- Replies
--   {'GENERATION'}             the server is new, empty or behind: what it counted is worth nothing
--   {'STALE'}                  compiled under another epoch, or a change was made and never announced
--   {'CLOSED'}                 the call was released before this command arrived
--   {'ROLLED', now}            a window or an override is over: compile again
--   {'COLD', …}                positions of subjects of which something is missing
--   {'DEGRADE', n}             limit number n is near its cap
--   {'REFUSED', n, used, held, now, retry_ms}   limit number n, first in effect (see below)
--   {'OK', now, amount, n, left, rn, rleft, tn, tleft}   n/left: tightest budget and what is left of it,
--                              rn/rleft and tn/tleft: tightest rate of requests and of tokens; 0 where there is none
--
-- Numbers of Lua are doubles, exact to 2^53 only: amounts travel as text, and sums of larger ones are taken
-- in two limbs of nine digits.
local EXACT = 4503599627370496
local LIMB = 1000000000
local WORDS = 6
local call, worst, least, tokens = ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7])
local may_degrade, record = ARGV[8] == '1', ARGV[9]
local subjects = tonumber(ARGV[11])
local own_only = ARGV[12] == '1'
local limits = cmsgpack.unpack(ARGV[13])

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

if redis.call('GET', KEYS[2]) ~= ARGV[2] .. ':' .. ARGV[3] then return {'GENERATION'} end
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {'STALE'} end

local clock = redis.call('TIME')
local second = tonumber(clock[1])
local now = second * 1000 + math.floor(tonumber(clock[2]) / 1000)
-- A change whose process died between commit and announcement: reading the epoch again repairs it.
for _, marked in ipairs(redis.call('HVALS', KEYS[#KEYS])) do
    if second - tonumber(marked) > tonumber(ARGV[10]) then return {'STALE'} end
end

-- The command may come twice (a connection lost after it was sent), or after its caller gave up.
local again = redis.call('HGET', KEYS[3], call)
if again then return {'OK', now, string.match(again, '^(%d+)|'), 0, '0', 0, 0, 0, 0} end
if redis.call('EXISTS', KEYS[4]) == 1 then return {'CLOSED'} end

local cold = {}
local spent, held, live, own, held_own = {}, {}, {}, {}, {}
for i = 1, subjects do
    local counter = redis.call('HMGET', KEYS[4 + i], 'spent', 'held', 'live', 'own', 'held_own')
    if not counter[1] then cold[i] = true end
    spent[i], held[i], live[i] = counter[1], counter[2] or '0', tonumber(counter[3] or '0')
    own[i], held_own[i] = counter[4] or '0', counter[5] or '0'
end

-- What the last 60 seconds saw: one-second buckets and their running sum, pruned as time passes. Buckets of requests
-- are named by their second, those of tokens by t and their second.
local function recent(key, prefix)
    local state = redis.call('HMGET', key, prefix .. 'sum', prefix .. 'pruned')
    if not state[1] then return 0 end
    local sum, pruned = tonumber(state[1]), tonumber(state[2])
    local horizon = second - 60
    if pruned >= horizon then return sum end
    -- Nothing is counted later than a minute after the last pruning: admission prunes before it counts.
    for s = pruned + 1, math.min(horizon, pruned + 60) do
        local count = redis.call('HGET', key, prefix .. s)
        if count then
            sum = sum - tonumber(count)
            redis.call('HDEL', key, prefix .. s)
        end
    end
    redis.call('HSET', key, prefix .. 'sum', sum, prefix .. 'pruned', horizon)
    return sum
end

local function count(key, prefix, amount)
    redis.call('HINCRBY', key, prefix .. second, amount)
    redis.call('HINCRBY', key, prefix .. 'sum', amount)
    redis.call('HSETNX', key, prefix .. 'pruned', second - 60)
    redis.call('EXPIRE', key, 130)
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

local function rates(subject) return KEYS[4 + subjects + subject] end

local tightest, left, tightest_rate, rate_left, tightest_tokens, tokens_left = 0, 0, 0, 0, 0, 0
local refused, refused_left, refused_rate, degrade
local rated, tokened, lived, daily = {}, {}, {}, {}
-- By number of the limit: what its budget counts as baseline, spent and held.
local baselines, spents, helds = {}, {}, {}

local judge = {}
function judge.r(number, subject, value)
    local room = value - recent(rates(subject), '')
    rated[subject] = true
    if tightest_rate == 0 or room < rate_left then tightest_rate, rate_left = number, room end
    return room >= 1
end
function judge.t(number, subject, value)
    local room = value - recent(rates(subject), 't')
    tokened[subject] = true
    if tightest_tokens == 0 or room < tokens_left then tightest_tokens, tokens_left = number, room end
    return room >= tokens
end
function judge.p(number, subject, value)
    lived[subject] = true
    return live[subject] < value
end
function judge.d(number, subject, value, starts)
    local seen = redis.call('HGET', KEYS[4 + subject], 'q:' .. starts)
    if not seen then
        cold[subject] = true
        return true
    end
    daily[subject] = starts
    return tonumber(seen) < value
end

-- A budget that counts calls on own keys counts everything; any other leaves out what they cost and hold.
local function read_budget(number, subject, starts, counts_own)
    local baseline, own_baseline = '0', '0'
    if starts ~= '0' then
        local found = redis.call('HMGET', KEYS[4 + subject], 'b:' .. starts, 'o:' .. starts)
        baseline, own_baseline = found[1], found[2] or '0'
        if not baseline then return false end
    end
    baselines[number], spents[number], helds[number] = baseline, spent[subject], held[subject]
    if not counts_own then
        if held_own[subject] ~= '0' then helds[number] = exact(held[subject], '0', held_own[subject], '0', '0') end
    elseif own[subject] ~= '0' or own_baseline ~= '0' then
        baselines[number] = exact(baseline, own_baseline, '0', '0', '0')
        spents[number] = exact(spent[subject], own[subject], '0', '0', '0')
    end
    return true
end

local function judge_budget(number, subject, value, starts, near, counts_own)
    if not spent[subject] then return end
    if not read_budget(number, subject, starts, counts_own) then
        cold[subject] = true
        return
    end
    if own_only and not counts_own then return end
    local baseline, spent, held = baselines[number], spents[number], helds[number]
    local room = headroom(value, baseline, spent, held, '0')
    if tightest == 0 or room < left then tightest, left = number, room end
    -- The budget with least room triggers first; on a tie the most specific, which comes first.
    local short = room < tonumber(worst)
    if room > EXACT then short = headroom(value, baseline, spent, held, worst) < 0 end
    if short and (not refused or room < refused_left) then refused, refused_left = number, room end
    if near ~= '' and not degrade then
        if headroom(near, baseline, spent, held, worst) < 0 then degrade = number end
    end
end

local number = 0
for at = 1, #limits, WORDS do
    number = number + 1
    local kind, subject, starts, ends = limits[at], tonumber(limits[at + 1]), limits[at + 3], tonumber(limits[at + 4])
    if ends > 0 and (now >= ends or now < tonumber(starts)) then return {'ROLLED', now} end
    if kind == 'b' or kind == 'w' then
        judge_budget(number, subject, limits[at + 2], starts, limits[at + 5], kind == 'w')
    elseif not judge[kind](number, subject, tonumber(limits[at + 2]), starts) and not refused_rate then
        refused_rate = number
    end
end
if next(cold) then
    local reply = {'COLD'}
    for subject in pairs(cold) do reply[#reply + 1] = subject end
    return reply
end
if degrade and may_degrade then return {'DEGRADE', degrade} end

local function word(limit, which) return limits[1 + (limit - 1) * WORDS + which] end

-- What is left of a budget after an amount.
local function remaining(limit, after)
    return exact(word(limit, 2), baselines[limit], spents[limit], helds[limit], after)
end

if refused and least ~= '' and refused_left >= tonumber(least) then
    worst, refused = remaining(refused, '0'), nil
end
if refused then
    return {'REFUSED', refused, exact(spents[refused], '0', baselines[refused], '0', '0'), helds[refused], now, 0}
end
if refused_rate then
    local kind, subject, value = word(refused_rate, 0), tonumber(word(refused_rate, 1)), tonumber(word(refused_rate, 2))
    local used, retry = 0, 1000
    if kind == 'r' then
        used = recent(rates(subject), '')
        retry = wait(rates(subject), '', used + 1 - value)
    elseif kind == 't' then
        used = recent(rates(subject), 't')
        retry = wait(rates(subject), 't', used + tokens - value)
    elseif kind == 'd' then
        used = tonumber(redis.call('HGET', KEYS[4 + subject], 'q:' .. word(refused_rate, 3)))
        retry = tonumber(word(refused_rate, 4)) - now
    else
        used = live[subject]
    end
    return {'REFUSED', refused_rate, string.format('%.0f', used), '0', now, retry}
end

local worst_own = own_only and worst or '0'
for i = 1, subjects do hold(KEYS[4 + i], '', worst, worst_own) end
for subject in pairs(rated) do count(rates(subject), '', 1) end
for subject in pairs(tokened) do count(rates(subject), 't', tokens) end
for subject in pairs(lived) do redis.call('HINCRBY', KEYS[4 + subject], 'live', 1) end
for subject, starts in pairs(daily) do redis.call('HINCRBY', KEYS[4 + subject], 'q:' .. starts, 1) end
redis.call('HSET', KEYS[3], call, table.concat({worst, worst_own, 'r', now, tokens, record}, '|'))

local after = '0'
if tightest > 0 then after = remaining(tightest, worst) end
if tightest_rate > 0 then rate_left = rate_left - 1 end
if tightest_tokens > 0 then tokens_left = tokens_left - tokens end
return {'OK', now, worst, tightest, after, tightest_rate, rate_left, tightest_tokens, tokens_left}
