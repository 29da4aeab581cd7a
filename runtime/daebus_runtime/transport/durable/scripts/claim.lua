-- Decides which replica runs a message that every replica got over publish/subscribe.
--
-- The same message may be sent again on purpose. So each replica's sights of it are counted, and each sight has one
-- winner: the replica that is the first to see it for the n-th time.
--
-- KEYS  1 claim (of the message's digest)
-- ARGV  1 replica  2 TTL of the counts, in ms
-- Returns 1 for the winner, else 0.
local call = redis.call
local taken = call('HGET', KEYS[1], 'taken')
local seen = call('HGET', KEYS[1], 'by:' .. ARGV[1])
local first = not taken
taken = tonumber(taken or 0)
-- A replica that is new here, or has missed some, counts from what others have seen.
seen = first and 1 or (seen and seen + 1 or taken)
local wins = seen > taken
call('HSET', KEYS[1], 'by:' .. ARGV[1], math.max(seen, taken), 'taken', math.max(seen, taken))
call('PEXPIRE', KEYS[1], ARGV[2])
return wins and 1 or 0
