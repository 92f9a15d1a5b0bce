-- The one way a mirror's hash is written. It writes only if the hash is ours and is what its writer observed.
--
-- KEYS 1 live hash, 2 staging key (swap)
-- ARGV 1 mode, 2 our owner, 3 the @fence observed ('' = none), 4 now in ms, 5 the highest format we know, 6 the least new @fence
--   swap: 7 number of staged fields, 8 '1' if the hash's consent may be used, 9 the attempt that staged
--   beat: 7 status, 8 @checkedAt ('' = leave it), 9 the @mac observed ('' = whatever it is), 10 @checkedMac
-- Answers {'DONE', fence, generation}, or the reason why nothing was written.
--
-- Redis does not roll a script back, and it refuses for lack of memory at the first write only. So everything is
-- judged before anything is written, and the first write is one that takes memory.

local live, stage = KEYS[1], KEYS[2]
local mode, owner, expected, now, format = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])

-- A later attempt may have begun to stage under the same key.
local function is_staged_by_us()
  return redis.call('HMGET', stage, '@fence')[1] == ARGV[9]
end

local function refuse(...)
  -- Nobody will use what was staged.
  if mode == 'swap' and is_staged_by_us() then redis.call('UNLINK', stage) end
  return {...}
end

local at = redis.pcall('HMGET', live,
  '@owner', '@fence', '@generation', '@format', '@status', '@statusAt', '@adoptBy', '@mac')
if at.err then
  if string.find(at.err, 'WRONGTYPE', 1, true) then return refuse('WRONGTYPE') end
  return at
end
local live_owner, live_fence, live_generation, live_format = at[1], at[2] or '', at[3] or '', at[4]
local live_status, live_status_at, adopt_by, live_mac = at[5], at[6], at[7], at[8]

if redis.call('HLEN', live) > 0 then
  local consents = mode == 'swap' and ARGV[8] == '1' and adopt_by == owner
  if live_owner ~= owner and not consents then return refuse('OWNED', live_owner or '') end
  if live_format and string.match(live_format, '^%d+$') and tonumber(live_format) > format then
    return refuse('NEWER')
  end
elseif mode ~= 'swap' then
  return refuse('GONE')
end
-- Compared as text: an absent or nonsensical fence compares as exactly as a number.
if live_fence ~= expected then return refuse('STALE') end
-- Who edits by hand leaves the fence as it is.
if mode == 'beat' and ARGV[9] ~= '' and live_mac ~= ARGV[9] then return refuse('STALE') end

if mode == 'drop' then
  redis.call('UNLINK', live)
  return {'DONE', '', ''}
end
if mode == 'swap' and (not is_staged_by_us() or redis.call('HLEN', stage) ~= tonumber(ARGV[7])) then
  return refuse('TORN')
end

-- Never a number that a write which Redis has forgotten since (a failover, an old dump) may have shown to a reader: the least is
-- the wall clock, and above what this writer tried before. Up to 15 digits are exact in Lua.
local fence = tonumber(ARGV[6])
if #live_fence <= 15 and string.match(live_fence, '^%d+$') then fence = math.max(fence, tonumber(live_fence) + 1) end
fence = string.format('%.0f', fence)

if mode == 'beat' then
  local status, checked_at = ARGV[7], ARGV[8]
  redis.call('HSET', live, '@fence', fence, '@status', status)
  if status ~= live_status then redis.call('HSET', live, '@statusAt', now) end
  if checked_at ~= '' then redis.call('HSET', live, '@checkedAt', checked_at, '@checkedMac', ARGV[10]) end
  return {'DONE', fence, live_generation}
end

redis.call('HSET', stage, '@owner', owner, '@fence', fence, '@generation', fence)
-- The time moves only when the status flips.
if live_owner == owner and live_status_at and redis.call('HMGET', stage, '@status')[1] == live_status then
  redis.call('HSET', stage, '@statusAt', live_status_at)
end
redis.call('RENAME', stage, live)
-- The staging key's end of life came along.
redis.call('PERSIST', live)
return {'DONE', fence, fence}
