-- Makes a service known, and a replica of it alive. Repeating it changes nothing.
--
-- KEYS  1 requests  2 replicas  3 beats  4 meta  5 signs
-- ARGV  1 replica ("" to make the service known only)  2 the replica as JSON  3 TTL of these keys, in ms
--       4 how many calls may wait  5 "again" if this replica was registered before
-- Returns "superseded" if it was taken out since; else "new" if the service was not known, or "known".
local call = redis.call
if ARGV[5] == 'again' and call('HEXISTS', KEYS[3], ARGV[1]) == 0 then return 'superseded' end
local made = redis.pcall('XGROUP', 'CREATE', KEYS[1], 'workers', '0', 'MKSTREAM')
if made.err and not string.find(made.err, 'BUSYGROUP', 1, true) then return made end
-- Entries that are acknowledged and not deleted yet: those before the oldest one that is pending or unread.
local pending = call('XPENDING', KEYS[1], 'workers')
local oldest = pending[1] > 0 and pending[2] or nil
for _, group in ipairs(oldest and {} or call('XINFO', 'GROUPS', KEYS[1])) do
  local field = {}
  for i = 1, #group, 2 do field[group[i]] = group[i + 1] end
  if field.name == 'workers' then oldest = field['last-delivered-id'] end
end
call('XTRIM', KEYS[1], 'MINID', oldest)
local time = call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
if ARGV[1] ~= '' then
  -- With the time of this entry, by the clock that ages are told by.
  call('HSET', KEYS[2], ARGV[1], string.sub(ARGV[2], 1, -2) .. ',"registered":' .. now .. '}')
  call('HSET', KEYS[5], ARGV[1], now)
  call('HSETNX', KEYS[3], ARGV[1], 0)
  call('HSET', KEYS[4], 'queue', ARGV[4])
end
call('HSET', KEYS[4], 'seen', now)
for i = 1, 5 do call('PEXPIRE', KEYS[i], ARGV[3]) end
return made.err and 'known' or 'new'
