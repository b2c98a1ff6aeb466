-- Gives claims back that are due at the moment that their subscription's throttle has for them.
UPDATE delivery
   SET claim = NULL, lease_until = '-infinity', next_attempt_at = held.at, paced = true
  FROM unnest($1::uuid[], $2::timestamptz[], $3::uuid[], $4::timestamptz[])
       AS held (id, created_at, claim, at)
 WHERE delivery.id = held.id AND delivery.created_at = held.created_at
   AND delivery.claim = held.claim AND delivery.state = 'pending'
