-- A sign of life of one replica, and those of all.
--
-- KEYS  1 beats  2 requests  3 replicas  4 meta  5 signs
-- ARGV  1 replica  2 "all" to return every replica's beat  3 TTL of these keys, in ms, or "" to leave it as it is
-- Returns false if this replica was taken out; else an empty list or, with "all", replicas and beats in turn.
local call = redis.call
if call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return false end
call('HINCRBY', KEYS[1], ARGV[1], 1)
local time = call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
call('HSET', KEYS[5], ARGV[1], now)
if ARGV[3] ~= '' then
  call('HSET', KEYS[4], 'seen', now)
  for i = 1, 5 do call('PEXPIRE', KEYS[i], ARGV[3]) end
end
return ARGV[2] == 'all' and call('HGETALL', KEYS[1]) or {}
