-- Ends a batch of messages of one replica, with the effects of `request.commit`, or after an earlier try: effects,
-- outcomes, replies and acknowledgements in one step.
--
-- KEYS  1 requests  2 beats  3 meta
-- ARGV  1 replica  2 prefix of the outcomes' keys  3 how long outcomes are kept, in ms  4 their most bytes
--       5 bytes of these outcomes  6 the entry that this replica has read last  7 one of an earlier batch to delete, or ""
--       8 "again" if an earlier try of this batch may have been done
--       then for each message: entry, its bytes, record key ("" for none), record, inbox ("" for none), reply, number of
--       commands, and each command as its number of words and its words
-- Returns "superseded", when nothing was done; else number and error of each message that was not ended, because the
-- server refused one of its commands. (Redis does not undo the commands before it.) Number 0: a reply was refused.
--! _period
local requests, beats, meta = KEYS[1], KEYS[2], KEYS[3]
local call = redis.call
if call('HEXISTS', beats, ARGV[1]) == 0 then return 'superseded' end
local again, refused = ARGV[8] == 'again', nil
local time = call('TIME')
-- Everything that the server may refuse (no memory, no permission, a wrong type) is refused here, before any effect.
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local outcomes = ARGV[2] .. current_period(meta, ARGV[2], ARGV[3], ARGV[4], ARGV[5], now)
call('HLEN', outcomes)
call('XACK', requests, 'workers', '0-0')
call('XDEL', requests, '0-0')

local function run(at, count, fault) -- the commands of request.commit; returns where they end, and an error if any
  for _ = 1, count do
    local words = tonumber(ARGV[at])
    local answer = not fault and redis.pcall(unpack(ARGV, at + 1, at + words))
    if type(answer) == 'table' and answer.err then fault = answer.err end
    at = at + 1 + words
  end
  return at, fault
end

local done, failed, records, mail, bytes, number, at = {}, {}, {}, {}, 0, 0, 9
while at <= #ARGV do
  local entry, size, record, value = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local inbox, reply, commands, fault = ARGV[at + 4], ARGV[at + 5], ARGV[at + 6], nil
  at, number = at + 7, number + 1
  local ended = again and #call('XPENDING', requests, 'workers', entry, entry, 1) == 0
  if commands ~= '0' then at, fault = run(at, tonumber(commands), ended) end
  if fault and not ended then
    failed[#failed + 1] = number
    failed[#failed + 1] = fault
  elseif not ended then
    done[#done + 1] = entry
    bytes = bytes + size
    if record ~= '' then
      records[#records + 1] = record
      records[#records + 1] = value
    end
    if inbox ~= '' then
      local letters = mail[inbox]
      if letters then letters[#letters + 1] = reply else mail[inbox] = { reply } end
    end
  end
end

if #records > 0 then
  call('HSET', outcomes, unpack(records))
  call('PEXPIRE', outcomes, ARGV[3])
end
if #done > 0 then
  call('XACK', requests, 'workers', unpack(done))
  -- If the entry that the group has read last is deleted, a server (7.0) no longer knows the group's lag.
  local delete = { ARGV[7] ~= '' and ARGV[7] or nil }
  for _, entry in ipairs(done) do
    if entry ~= ARGV[6] then delete[#delete + 1] = entry end
  end
  if #delete > 0 then call('XDEL', requests, unpack(delete)) end
  if call('HINCRBY', meta, 'bytes', -bytes) < 0 then call('HSET', meta, 'bytes', 0) end
end
for inbox, letters in pairs(mail) do
  local sent = redis.pcall('PUBLISH', inbox, #letters == 1 and letters[1] or '[' .. table.concat(letters, ',') .. ']')
  if type(sent) == 'table' then refused = sent.err end
end
if refused then
  failed[#failed + 1] = 0
  failed[#failed + 1] = refused
end
return failed
