-- Attempts at a topic's deliveries since the one with $2, the oldest first. Sequences are given out before
-- they are seen: who asks again must allow for late ones.
SELECT attempt.seq AS attempt_seq, attempt.number, attempt.started_at, attempt.duration_ms,
       attempt.status, attempt.error, attempt.address, attempt.request_bytes, attempt.response_bytes,
       attempt.response, attempt.delivery_id
  FROM attempt
 WHERE attempt.topic_id = $1 AND attempt.seq > $2
   AND ($3::uuid IS NULL
        OR EXISTS (SELECT 1 FROM delivery
                    WHERE delivery.id = attempt.delivery_id
                      AND delivery.created_at = attempt.created_at
                      AND delivery.subscription_id = $3))
 ORDER BY attempt.seq
 LIMIT $4
