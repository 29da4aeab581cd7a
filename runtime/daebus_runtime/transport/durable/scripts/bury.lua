-- Takes a replica out: its messages become free for the others. Of several that see it dead, the first does it.
--
-- KEYS  1 requests  2 replicas  3 beats  4 signs
-- ARGV  1 replica  2 the beat that was seen, "gone" if it had none, or "" when it leaves by itself
--       3 consumer of the free messages  4 channel that wakes the others
-- Returns false if it is alive or already buried, else how many messages it had.
local call = redis.call
local beat = call('HGET', KEYS[3], ARGV[1]) or 'gone'
if ARGV[2] ~= '' and beat ~= ARGV[2] then return false end
local count = 0
repeat
  local held = call('XPENDING', KEYS[1], 'workers', '-', '+', 500, ARGV[1])
  if #held > 0 then
    local ids = {}
    for i, one in ipairs(held) do ids[i] = one[1] end
    -- JUSTID keeps the number of deliveries, so the run that ended with the replica counts as an attempt.
    count = count + #ids
    ids[#ids + 1] = 'JUSTID'
    call('XCLAIM', KEYS[1], 'workers', ARGV[3], 0, unpack(ids))
  end
until #held == 0
call('HDEL', KEYS[2], ARGV[1])
call('HDEL', KEYS[3], ARGV[1])
call('HDEL', KEYS[4], ARGV[1])
call('XGROUP', 'DELCONSUMER', KEYS[1], 'workers', ARGV[1])
if count > 0 then call('PUBLISH', ARGV[4], ARGV[1]) end
return count
