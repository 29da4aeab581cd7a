-- The messages that a replica has on the server and does not know of: the answer with them was lost. It is a sign of
-- life, too.
--
-- KEYS  1 requests  2 beats
-- ARGV  1 replica  then the entries that it knows of
-- Returns as take.lua does; or "superseded".
local call, known = redis.call, {}
if call('HEXISTS', KEYS[2], ARGV[1]) == 0 then return 'superseded' end
call('HINCRBY', KEYS[2], ARGV[1], 1)
for i = 2, #ARGV do known[ARGV[i]] = true end
local found, from = {}, '-'
repeat
  local held = call('XPENDING', KEYS[1], 'workers', from, '+', 1000, ARGV[1])
  for _, one in ipairs(held) do
    local entry = not known[one[1]] and call('XRANGE', KEYS[1], one[1], one[1])[1]
    if entry then found[#found + 1] = { entry[1], entry[2], one[4] } end
    from = '(' .. one[1]
  end
until #held < 1000
local time = call('TIME')
return { string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)), found }
