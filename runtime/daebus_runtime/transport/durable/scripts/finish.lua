-- Ends a batch of messages of one replica: outcomes, replies and acknowledgements in one step. commit.lua does it where
-- single messages have to be looked at.
--
-- KEYS  1 requests  2 beats  3 meta
-- ARGV  1 replica  2 prefix of the outcomes' keys  3 how long outcomes are kept, in ms  4 their most bytes
--       5 bytes of these outcomes  6 bytes of the messages
--       7, 8 places in ARGV of the first and last entry to acknowledge  9, 10 of those to delete  11, 12 of record keys and
--       records, in turn  then entries, keys and records, and at last inboxes and what is sent there, in turn
-- Returns "superseded", when nothing was done; else nothing, or 0 and the error of a reply that was refused.
--! _period
local requests, beats, meta = KEYS[1], KEYS[2], KEYS[3]
local call = redis.call
if call('HEXISTS', beats, ARGV[1]) == 0 then return 'superseded' end
local time = call('TIME')
-- Everything that the server may refuse (no memory, no permission, a wrong type) is refused here, before any effect.
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local outcomes = ARGV[2] .. current_period(meta, ARGV[2], ARGV[3], ARGV[4], ARGV[5], now)
call('HLEN', outcomes)
call('XACK', requests, 'workers', '0-0')
call('XDEL', requests, '0-0')

local function part(first) -- a part of ARGV, if it is not empty
  local from, to = tonumber(ARGV[first]), tonumber(ARGV[first + 1])
  return to >= from, from, to
end
local some, from, to = part(11)
if some then
  call('HSET', outcomes, unpack(ARGV, from, to))
  call('PEXPIRE', outcomes, ARGV[3])
end
local mail = to + 1
some, from, to = part(7)
call('XACK', requests, 'workers', unpack(ARGV, from, to))
-- If the entry that the group has read last is deleted, a server (7.0) no longer knows the group's lag.
some, from, to = part(9)
if some then call('XDEL', requests, unpack(ARGV, from, to)) end
if call('HINCRBY', meta, 'bytes', -ARGV[6]) < 0 then call('HSET', meta, 'bytes', 0) end

local failed = {}
for i = mail, #ARGV, 2 do
  local sent = redis.pcall('PUBLISH', ARGV[i], ARGV[i + 1])
  if type(sent) == 'table' then failed = { 0, sent.err } end
end
return failed
