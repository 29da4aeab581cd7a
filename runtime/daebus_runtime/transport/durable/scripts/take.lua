-- Takes free messages, the oldest first.
--
-- Every message that a dead replica had counts an attempt, though only one of them may have killed it. So the last
-- attempt of each is run alone.
--
-- KEYS  1 requests  2 beats
-- ARGV  1 replica  2 consumer of the free messages  3 at most so many  4 the attempt from which on one is taken alone
-- Returns the server's time in ms, and the entries, each with its number of deliveries (this one included); or
-- "superseded".
local call = redis.call
if call('HEXISTS', KEYS[2], ARGV[1]) == 0 then return 'superseded' end
local taken, alone = {}, tonumber(ARGV[4])
for _, held in ipairs(call('XPENDING', KEYS[1], 'workers', '-', '+', ARGV[3], ARGV[2])) do
  local last = held[4] + 1 >= alone
  if last and #taken > 0 then break end
  local entry = call('XCLAIM', KEYS[1], 'workers', ARGV[1], 0, held[1])[1]
  if entry then
    taken[#taken + 1] = { entry[1], entry[2], held[4] + 1 }
    if last then break end
  else
    call('XACK', KEYS[1], 'workers', held[1]) -- somebody has deleted it
  end
end
local time = call('TIME')
return { string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)), taken }
