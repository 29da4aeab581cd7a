-- A sign of life of one replica, and those of all.
--
-- KEYS  1 beats  2 requests  3 replicas  4 meta
-- ARGV  1 replica  2 "all" to return every replica's beat  3 TTL of these keys, in ms, or "" to leave it as it is
-- Returns false if this replica was taken out; else an empty list or, with "all", replicas and beats in turn.
local call = redis.call
if call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return false end
call('HINCRBY', KEYS[1], ARGV[1], 1)
if ARGV[3] ~= '' then
  local time = call('TIME')
  call('HSET', KEYS[4], 'seen', string.format('%.0f', time[1] * 1000))
  for i = 1, 4 do call('PEXPIRE', KEYS[i], ARGV[3]) end
end
return ARGV[2] == 'all' and call('HGETALL', KEYS[1]) or {}
