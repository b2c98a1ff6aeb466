-- The result of an attempt, unless the claim has passed to somebody else.
WITH done AS (
    UPDATE delivery
       SET state = $3,
           attempts = attempts + 1,
           next_attempt_at = $4,
           claim = NULL,
           token = CASE WHEN $3 = 'pending' THEN token END,
           last_status = $7,
           last_error = $8,
           ended_at = $10
     WHERE id = $1 AND claim = $2 AND state = 'pending'
    RETURNING id, attempts
)
INSERT INTO attempt (delivery_id, number, started_at, duration_ms, status, error, address)
SELECT done.id, done.attempts, $5, $6, $7, $8, $9 FROM done
