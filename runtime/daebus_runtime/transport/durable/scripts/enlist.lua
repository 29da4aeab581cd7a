-- Puts a service on a list: of those that are known, or of those that listen on a channel. The list lies on another
-- slot than the keys of the service, so this is a step of its own.
--
-- KEYS  1 the list
-- ARGV  1 service  2 how long it stays listed after this, in ms
local call = redis.call
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1])
call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.0f', now - ARGV[2]))
call('PEXPIRE', KEYS[1], ARGV[2])
return 'OK'
