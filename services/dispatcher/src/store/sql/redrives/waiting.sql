-- Held until they are sent: one replica sends a letter.
SELECT id, delivery_id, message_id, topic_arn, subscription_id, queue_arn, body, attempts, status,
       error, given_up_at
  FROM redrive
 ORDER BY id
 LIMIT $1
   FOR UPDATE SKIP LOCKED
