-- Adds fields to a staging key and renews its life. In one script, so that no crash and no write that arrives
-- late can leave a staging key behind that lives for ever.
-- KEYS 1 staging key | ARGV 1 seconds to live, then field, value, field, value, ...

-- unpack() takes less than 8,000 values.
local first = 2
while first <= #ARGV do
  local last = math.min(first + 1999, #ARGV)
  redis.call('HSET', KEYS[1], unpack(ARGV, first, last))
  first = last + 1
end
redis.call('EXPIRE', KEYS[1], ARGV[1])
return 'STAGED'
