-- The recorded outcomes of messages.
--
-- KEYS  1 meta
-- ARGV  1 prefix of the outcomes' keys  then the record keys
-- Returns for each its record, or false.
local call, found = redis.call, {}
local period = tonumber(call('HGET', KEYS[1], 'period') or 0)
for i = 2, #ARGV do
  found[i - 1] = false
  for number = period, math.max(period - 7, 1), -1 do
    local record = call('HGET', ARGV[1] .. number, ARGV[i])
    if record then
      found[i - 1] = record
      break
    end
  end
end
return found
