-- Gives back what was claimed and not tried to its end: it is due at once, for anybody.
UPDATE delivery
   SET claim = NULL, lease_until = '-infinity'
  FROM unnest($1::uuid[], $2::timestamptz[], $3::uuid[]) AS held (id, created_at, claim)
 WHERE delivery.id = held.id AND delivery.created_at = held.created_at
   AND delivery.claim = held.claim AND delivery.state = 'pending'
