-- Stores a batch of messages from one sender, in their order.
--
-- KEYS  1 requests  2 beats  3 meta  4 sender
-- ARGV  1 most entries waiting  2 most bytes waiting  3 how long a service without a replica stays known, in ms
--       4 TTL of the sender's record, in ms  5 "asleep" to accept messages for a service without a replica,
--         "known" also if nothing is known of it here: then the server has lost its data, and the service will come
--       6 "again" if an earlier try of this batch may have been stored
--       7 prefix of the outcomes' keys  8 how long outcomes are kept, in ms  9 their most bytes
--       10 the messages' numbers with this sender, separated by spaces  11 "", or for each message "-" or, if another
--          message with its id must not be stored, the digest of its content ("*" agrees with all)
--       12 the last number  13 bytes of all envelopes  14 how many of the messages are calls
--       then for each message: its time budget in ms (0: none), its id, its envelope
-- Returns "unknown" or "asleep", when nothing was stored; 1 if all were; else for each message 1 (stored), 0 (too many
-- wait), 2 (it was stored before) or 3 (another one was stored under its id).
--! _period
local requests, beats, meta, sender = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local call, most_entries, most_bytes = redis.call, tonumber(ARGV[1]), tonumber(ARGV[2])

local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if call('EXISTS', requests) == 0 then
  if ARGV[5] ~= 'known' then return 'unknown' end
  call('XGROUP', 'CREATE', requests, 'workers', '0', 'MKSTREAM')
  call('HSET', meta, 'seen', string.format('%.0f', now))
  call('PEXPIRE', requests, ARGV[3])
  call('PEXPIRE', meta, ARGV[3])
end
local known = ARGV[6] == 'again' and tonumber(call('HGET', sender, 'last') or 0) or 0
-- If an earlier try was stored, its sender must not look for another way.
if call('HLEN', beats) == 0 and known < tonumber(string.match(ARGV[10], '%d+')) then
  local idle = now - (call('HGET', meta, 'seen') or 0)
  if idle > tonumber(ARGV[3]) then return 'unknown' end
  if ARGV[5] == '' then return 'asleep' end
end

local length = call('XLEN', requests)
local state = call('HMGET', meta, 'bytes', 'queue')
if length == 0 then call('HSET', meta, 'bytes', 0) end -- the count heals itself
local bytes, queue = length > 0 and tonumber(state[1] or 0) or 0, tonumber(state[2] or most_entries)
local function note(bytes) -- what was stored
  call('HSET', meta, 'bytes', bytes)
  call('HSET', sender, 'last', ARGV[12])
  call('PEXPIRE', sender, ARGV[4])
end

-- Most batches: nothing has to be looked at message by message, and all have room.
local count, total = (#ARGV - 14) / 3, bytes + tonumber(ARGV[13])
local roomy = length + count <= most_entries and total <= most_bytes and (ARGV[14] == '0' or length + count <= queue)
if ARGV[6] == '' and ARGV[11] == '' and roomy then
  local heads = {}
  for i = 15, #ARGV, 3 do
    local budget = ARGV[i]
    local head = heads[budget]
    if not head then
      head = string.format('2 %.0f %s ', budget ~= '0' and now + budget or 0, budget)
      heads[budget] = head
    end
    call('XADD', requests, '*', 'h', head .. ARGV[i + 1], 'm', ARGV[i + 2])
  end
  note(total)
  return 1
end

local stored = {}
-- Numbers that were refused stand here until there are too many.
if ARGV[6] ~= 'again' and call('HLEN', sender) > 10000 then call('UNLINK', sender) end

local function unread() -- the entries that no replica has read
  for _, group in ipairs(call('XINFO', 'GROUPS', requests)) do
    for i = 1, #group, 2 do
      if group[2] == 'workers' and group[i] == 'lag' and group[i + 1] then return tonumber(group[i + 1]) end
    end
  end
  return length - call('XPENDING', requests, 'workers')[1] -- the one that was read last may be counted after its end
end
-- The queue of calls has a limit of its own. What is being handled does not count; it is asked for when it matters.
local waiting, exact, full = length, false, false

-- An id that must be unique stands in the hashes of the outcomes, and is forgotten with them.
local function seen_before(id, digest) -- 2 or 3, or nil if the id is new
  local period = tonumber(call('HGET', meta, 'period') or 0)
  for number = period, math.max(period - 7, 1), -1 do
    local other = call('HGET', ARGV[7] .. number, '#' .. id)
    if other then return (other == digest or other == '*' or digest == '*') and 2 or 3 end
  end
end
local function remember(id, digest)
  local outcomes = ARGV[7] .. current_period(meta, ARGV[7], ARGV[8], ARGV[9], #id + #digest + 1, now)
  call('HSET', outcomes, '#' .. id, digest)
  call('PEXPIRE', outcomes, ARGV[8])
end

local next_number, next_digest = string.gmatch(ARGV[10], '%S+'), string.gmatch(ARGV[11], '%S+')
for i = 15, #ARGV, 3 do
  local budget, id, envelope = tonumber(ARGV[i]), ARGV[i + 1], ARGV[i + 2]
  local number, digest, size = next_number(), next_digest() or '-', #envelope
  local seen = digest ~= '-' and seen_before(id, digest)
  if budget > 0 and waiting >= queue and not exact then waiting, exact = unread(), true end
  -- If one is refused, the later ones are too, so that none overtakes another.
  full = full or length >= most_entries or (bytes > 0 and bytes + size > most_bytes) or (budget > 0 and waiting >= queue)
  if seen then
    stored[#stored + 1] = seen
  elseif tonumber(number) <= known then
    stored[#stored + 1] = 1 - call('HEXISTS', sender, number)
  elseif full then
    call('HSET', sender, number, '')
    stored[#stored + 1] = 0
  else
    local head = string.format('2 %.0f %.0f %s', budget > 0 and now + budget or 0, budget, id)
    call('XADD', requests, '*', 'h', head, 'm', envelope)
    if digest ~= '-' then remember(id, digest) end
    length, waiting, bytes = length + 1, waiting + 1, bytes + size
    stored[#stored + 1] = 1
  end
end
note(bytes)
return stored
