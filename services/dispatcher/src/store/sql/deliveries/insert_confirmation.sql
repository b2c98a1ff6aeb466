INSERT INTO delivery (id, message_id, topic_id, subscription_id, target, token, next_attempt_at,
                      created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $7)
