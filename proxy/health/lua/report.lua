-- What one worker saw of deployments since its last report, added to what all know; and back: what all know now.
--
-- KEYS  for each deployment its state, its probe and its quota (proxy/health/keys.py), in this order; last of all
--       the deployments at which a key is refused, and the keys that served a call meanwhile
-- ARGV  1 MessagePack: for each deployment an array of words (proxy/health/reports.py):
--         1 attempts that succeeded, 2 that failed, 3 and 4 how long ago (ms) the latest of each began,
--         5 kind of the latest failure, 6 whether one of them opens the circuit at once,
--         7 how long (ms) that kind keeps it open at first, 8 how long the provider itself asked to be left alone (0: it did not),
--         9 times to first token: their number, 10 their mean (ms), 11 answers: their number, 12 their mean output (tokens a second),
--         13 whether this worker's probe is over, 14 whether the circuit may open at all,
--         15 flat array: second of a reservation, and by how many tokens it was wrong, 16 the deployment's name,
--         17 the name of its key
--       2 length of a bucket in ms, 3 how many of them the window is made of
-- Returns for each: {opened 0/1, ms until the circuit may be probed, kind that opened it, ms to first token, tokens a second,
--   attempts, failures, kind of the latest failure}; averages are '' where nothing is known
--
-- The circuit is a state of its own beside the counts: `opened` (when, ms), `till` (when it may be probed) and `trips` (how
-- often in a row). Only an attempt that began after it opened can close it; only one that began after `till`, so the
-- probe, opens it for longer: others were under way when it opened, or had nowhere else to go.
local BUCKET_MS, BUCKETS = tonumber(ARGV[2]), tonumber(ARGV[3])
local LEAST_FAILURES = 5
local LONGEST_MS = 120000
local KEPT = 0.9
-- When an attempt began is known to the millisecond, give or take the way of the command.
local SLACK_MS = 2
local FORGET_SECONDS = 3600

local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local bucket = math.floor(now / BUCKET_MS)

local function read(key)
    local fields, state = redis.call('HGETALL', key), {}
    for f = 1, #fields, 2 do state[fields[f]] = fields[f + 1] end
    return state
end

-- Adds to this bucket, drops those that are over; returns how many attempts and failures the window holds.
local function count(key, state, succeeded, failed)
    for name, more in pairs({s = succeeded, f = failed}) do
        if more > 0 then state[name .. bucket] = redis.call('HINCRBY', key, name .. bucket, more) end
    end
    local attempts, failures = 0, 0
    for field, value in pairs(state) do
        local name, number = string.match(field, '^([sf])(%d+)$')
        if name and tonumber(number) <= bucket - BUCKETS then
            redis.call('HDEL', key, field)
        elseif name then
            attempts = attempts + tonumber(value)
            if name == 'f' then failures = failures + tonumber(value) end
        end
    end
    return attempts, failures
end

local function close(key, state)
    redis.call('HDEL', key, 'opened', 'till', 'trips', 'why')
    state.opened, state.till, state.trips, state.why = nil, nil, nil, nil
    for field in pairs(state) do
        if string.match(field, '^[sf]%d+$') then redis.call('HDEL', key, field) end
    end
end

local function open(key, state, kind, first, asked)
    local trips = tonumber(state.trips or '0')
    local pause = asked > 0 and asked or math.min(LONGEST_MS, first * 2 ^ trips)
    state.opened, state.till, state.why = now, now + pause, kind
    redis.call('HSET', key, 'opened', state.opened, 'till', state.till, 'why', kind, 'trips', trips + 1)
end

local function judge(key, state, seen, attempts, failures)
    local succeeded, failed, kind, at_once, asked = seen[1] > 0, seen[2] > 0, seen[5], seen[6], seen[8]
    local good_began, bad_began = now - seen[3], now - seen[4]
    if not seen[14] then
        if state.opened then close(key, state) end
    elseif not state.opened then
        if failed and (at_once or failures >= LEAST_FAILURES and failures * 2 >= attempts) then
            open(key, state, kind, seen[7], asked)
        end
    elseif succeeded and good_began + SLACK_MS >= tonumber(state.opened) and not (failed and bad_began > good_began) then
        close(key, state)
    elseif failed and bad_began >= tonumber(state.till) then
        open(key, state, kind, seen[7], asked)
    elseif failed and now + asked > tonumber(state.till) then
        state.till = now + asked
        redis.call('HSET', key, 'till', state.till)
    end
end

-- A moving average: each observation counts a tenth, all those before it together the rest.
local function average(key, state, field, number, mean)
    if number == 0 then return state[field] or '' end
    local kept = state[field] and KEPT ^ number or 0
    local value = string.format('%.3f', kept * tonumber(state[field] or '0') + (1 - kept) * mean)
    redis.call('HSET', key, field, value)
    return value
end

-- Tokens count in the second in which they were reserved (reserve.lua).
local function correct(key, corrections)
    for c = 1, #corrections, 2 do
        local field = 't' .. corrections[c]
        if redis.call('HEXISTS', key, field) == 1 then
            redis.call('HINCRBY', key, field, corrections[c + 1])
            redis.call('HINCRBY', key, 'tsum', corrections[c + 1])
        end
    end
end

-- A key that was refused is so until an attempt that began later succeeds. Elsewhere, too: but there the mark stays, so that a
-- deployment that alone is closed to a good key is not taken for a new episode at each of its refusals (proxy/health/refused.py).
-- Unless the key has served nothing for an hour: it may have died meanwhile, so what is refused now is an episode of its own.
local REFUSED, WORKED = KEYS[#KEYS - 1], KEYS[#KEYS]
local some_refused = redis.call('HLEN', REFUSED) > 0
if not some_refused then redis.call('DEL', WORKED) end
local function note_refusal(seen)
    local succeeded, failed, name = seen[1] > 0, seen[2] > 0, seen[16]
    if failed and seen[5] == 'auth' and not (succeeded and seen[3] < seen[4]) then
        local since, served = redis.call('HGET', REFUSED, name), tonumber(redis.call('HGET', WORKED, seen[17]) or now)
        if not since or tonumber(since) <= served and served < now - FORGET_SECONDS * 1000 then
            redis.call('HSET', REFUSED, name, now)
        end
    elseif succeeded and some_refused then
        local since = redis.call('HGET', REFUSED, name)
        if since and now - seen[3] + SLACK_MS >= tonumber(since) then redis.call('HDEL', REFUSED, name) end
        redis.call('HSET', WORKED, seen[17], now - seen[3] + SLACK_MS)
    end
end

local replies = {}
for i, seen in ipairs(cmsgpack.unpack(ARGV[1])) do
    local key = KEYS[3 * i - 2]
    local state = read(key)
    local attempts, failures = count(key, state, seen[1], seen[2])
    local was_open = state.opened
    judge(key, state, seen, attempts, failures)
    if was_open and not state.opened then attempts, failures = 0, 0 end
    local first_token = average(key, state, 'first_token', seen[9], seen[10])
    local speed = average(key, state, 'speed', seen[11], seen[12])
    if seen[2] > 0 then
        redis.call('HSET', key, 'error', seen[5], 'error_at', now)
        state.error = seen[5]
    end
    if seen[1] + seen[2] + seen[9] + seen[11] > 0 then redis.call('EXPIRE', key, FORGET_SECONDS) end
    if seen[13] then redis.call('DEL', KEYS[3 * i - 1]) end
    correct(KEYS[3 * i], seen[15])
    note_refusal(seen)
    local left = state.opened and tonumber(state.till) - now or 0
    replies[i] = {
        state.opened and 1 or 0, left, state.why or '', first_token, speed, attempts, failures, state.error or '',
    }
end
return replies
