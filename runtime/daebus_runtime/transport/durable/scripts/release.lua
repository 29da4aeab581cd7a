-- Hands back messages that a replica has read and not begun; no attempt is counted.
--
-- KEYS  1 requests  2 beats
-- ARGV  1 replica  2 consumer of the free messages  3 channel that wakes the others  then the entries
local call, entries = redis.call, { unpack(ARGV, 4) }
if call('HEXISTS', KEYS[2], ARGV[1]) == 0 then return 'superseded' end
for _, entry in ipairs(entries) do
  local held = call('XPENDING', KEYS[1], 'workers', entry, entry, 1)[1]
  if held then
    call('XCLAIM', KEYS[1], 'workers', ARGV[2], 0, entry, 'RETRYCOUNT', math.max(held[4] - 1, 0), 'JUSTID')
  end
end
call('PUBLISH', ARGV[3], ARGV[1])
return #entries
