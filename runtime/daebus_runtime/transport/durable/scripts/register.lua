-- Makes a service known, and a replica of it alive. Repeating it changes nothing.
--
-- KEYS  1 requests  2 replicas  3 beats  4 meta
-- ARGV  1 replica ("" to make the service known only)  2 the replica as JSON  3 TTL of these keys, in ms
--       4 how many calls may wait  5 "again" if this replica was registered before
-- Returns "superseded" if it was taken out since.
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
if ARGV[1] ~= '' then
  call('HSET', KEYS[2], ARGV[1], ARGV[2])
  call('HSETNX', KEYS[3], ARGV[1], 0)
  call('HSET', KEYS[4], 'queue', ARGV[4])
end
local time = call('TIME')
call('HSET', KEYS[4], 'seen', string.format('%.0f', time[1] * 1000))
for i = 1, 4 do call('PEXPIRE', KEYS[i], ARGV[3]) end
return 'OK'
