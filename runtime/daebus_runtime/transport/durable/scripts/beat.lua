-- A sign of life of one replica, and those of all.
--
-- KEYS  1 beats  2 requests  3 replicas  4 meta  5 signs
-- ARGV  1 replica  2 "all" to return every replica's beat  3 TTL of these keys, in ms, or "" to leave them as they are
--       4 the replica as JSON  5 how many calls may wait  6 consumer of the free messages
-- Returns false if this replica was taken out; else an empty list or, with "all", whether there are free messages (0 or
-- 1), then replicas and beats in turn. "gone" instead of a beat: it has messages, but is no longer a replica.
local call = redis.call
if call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return false end
call('HINCRBY', KEYS[1], ARGV[1], 1)
local time = call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
call('HSET', KEYS[5], ARGV[1], now)
if ARGV[3] ~= '' then
  call('HSET', KEYS[4], 'seen', now, 'queue', ARGV[5])
  call('HSETNX', KEYS[3], ARGV[1], ARGV[4]) -- somebody may have removed it
  for i = 1, 5 do call('PEXPIRE', KEYS[i], ARGV[3]) end
end
if ARGV[2] ~= 'all' then return {} end
local beats = call('HGETALL', KEYS[1])
local free = redis.pcall('XPENDING', KEYS[2], 'workers', '-', '+', 1, ARGV[6])
table.insert(beats, 1, free.err and 0 or #free)
if ARGV[3] ~= '' and not free.err then
  -- A read that was on its way when its replica was taken out has made its consumer anew.
  for _, about in ipairs(redis.pcall('XINFO', 'CONSUMERS', KEYS[2], 'workers')) do
    local name, pending = about[2], about[4]
    if pending > 0 and name:sub(1, 5) ~= 'free:' and call('HEXISTS', KEYS[1], name) == 0 then
      beats[#beats + 1] = name
      beats[#beats + 1] = 'gone'
    end
  end
end
return beats
