-- Adds fields to the staging key of a mirror and renews its life. In one script, so that no crash and no write that arrives
-- late can leave a staging key behind that lives for ever.
-- KEYS 1 staging key | ARGV 1 seconds to live, 2 the attempt that stages, 3 '1' if it begins, then field, value, field, value, ...
--
-- All attempts for a mirror share one key, so that what a slow Redis has not got to cannot pile up: each attempt begins by clearing it. Until
-- the swap, @fence holds the attempt; what arrives late from another one is dropped.

if ARGV[3] == '1' then
  -- Redis refuses for lack of memory at the first write only, so that one takes memory.
  redis.call('HSET', KEYS[1], '@fence', ARGV[2])
  redis.call('UNLINK', KEYS[1])
  redis.call('HSET', KEYS[1], '@fence', ARGV[2])
elseif redis.call('HMGET', KEYS[1], '@fence')[1] ~= ARGV[2] then
  return 'LOST'
end
-- unpack() takes less than 8,000 values.
local first = 4
while first <= #ARGV do
  local last = math.min(first + 1999, #ARGV)
  redis.call('HSET', KEYS[1], unpack(ARGV, first, last))
  first = last + 1
end
redis.call('EXPIRE', KEYS[1], ARGV[1])
return 'STAGED'
