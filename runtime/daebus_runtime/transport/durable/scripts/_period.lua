-- Included by scripts that write outcomes. One hash holds those of a period, which ends with an eighth of the time or of
-- the bytes that outcomes may take. Eight are kept.
--
-- Returns the number of the current period, after noting so many bytes more.
local function current_period(meta, prefix, ttl, most, bytes, now)
  local state = redis.call('HMGET', meta, 'period', 'since', 'kept')
  local period, since, kept = tonumber(state[1] or 0), tonumber(state[2] or 0), tonumber(state[3] or 0)
  ttl = tonumber(ttl)
  if period == 0 or kept > tonumber(most) / 8 or now < since or now - since > ttl / 8 then
    period, kept, since = period + 1, 0, now
  end
  redis.call('HSET', meta, 'period', period, 'since', since, 'kept', kept + bytes)
  if kept == 0 then redis.call('UNLINK', prefix .. (period - 8)) end
  return period
end
