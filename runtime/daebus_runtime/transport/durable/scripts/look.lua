-- Looks at one service: what waits, and who is there. Changes nothing.
--
-- KEYS  1 requests  2 replicas  3 beats  4 signs  5 meta
-- ARGV  1 most entries to count  2 most bytes to read for that  3 most replicas to return
-- Returns false if the service is unknown; else the server's time in ms, entries, entries that are read and not ended,
-- entries that are unread, the oldest unread and the oldest unfinished entry, when the service was last seen (ms),
-- number of replicas; and as lists of fields and values: replicas, beats, signs. False stands for what is not known.
local requests, most, most_bytes = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])
local call = redis.call
if call('EXISTS', requests) == 0 then return false end

local function count(from, to) -- the entries of a range; nil if they are too many, or too large
  local found, size, step = 0, 0, 1
  while true do
    local part = call('XRANGE', requests, from, to, 'COUNT', step)
    if #part == 0 then return found end
    for _, entry in ipairs(part) do
      for _, text in ipairs(entry[2]) do size = size + #text end
    end
    found = found + #part
    if found > most or size > most_bytes then return nil end
    from = '(' .. part[#part][1]
    step = math.min(500, math.max(1, math.floor(65536 * found / (size + 1)))) -- about 64 KiB at a time
  end
end

local length, pending, lag, unread, unfinished = call('XLEN', requests), false, false, false, false
for _, group in ipairs(call('XINFO', 'GROUPS', requests)) do
  local field = {}
  for i = 1, #group, 2 do field[group[i]] = group[i + 1] end
  if field.name == 'workers' then
    local last = field['last-delivered-id']
    pending, lag = field.pending, field.lag or false
    -- Servers before 7.0 give no lag. Newer ones give none, or a wrong one, if unread entries were deleted.
    if not lag or lag + pending > length then
      local read = pending <= most and count('-', last)
      lag = read and length - read or count('(' .. last, '+') or false
    end
    local first = lag ~= 0 and call('XRANGE', requests, '(' .. last, '+', 'COUNT', 1)[1]
    unread = first and first[1] or false
    unfinished = call('XPENDING', requests, 'workers')[2] or false
  end
end

local time, replicas = call('TIME'), call('HLEN', KEYS[2])
local shown = replicas <= tonumber(ARGV[3])
return {
  string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)), length, pending, lag, unread, unfinished,
  call('HGET', KEYS[5], 'seen'), replicas,
  shown and call('HGETALL', KEYS[2]) or {}, shown and call('HGETALL', KEYS[3]) or {},
  shown and call('HGETALL', KEYS[4]) or {},
}
