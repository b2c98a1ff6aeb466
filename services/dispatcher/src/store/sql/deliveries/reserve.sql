-- Takes $4 moments of a throttled subscription, $3 apart; answers the first that is taken.
INSERT INTO pace (subscription_id, free_at)
VALUES ($1, $2::timestamptz + $3::interval * $4::integer)
    ON CONFLICT (subscription_id) DO UPDATE
   SET free_at = greatest(pace.free_at, $2) + $3::interval * $4::integer
RETURNING free_at - $3::interval * $4::integer
