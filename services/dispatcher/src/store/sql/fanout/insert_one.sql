INSERT INTO delivery (id, message_id, topic_id, subscription_id, target, next_attempt_at, created_at)
VALUES (gen_random_uuid(), $1, $2, $3, $4, $5, $5)
