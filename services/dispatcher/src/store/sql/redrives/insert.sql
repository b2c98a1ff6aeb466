INSERT INTO redrive (delivery_id, message_id, topic_arn, subscription_id, queue_arn, body, attempts,
                     status, error, given_up_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
