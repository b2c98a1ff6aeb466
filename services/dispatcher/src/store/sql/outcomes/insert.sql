INSERT INTO outcome (event_id, notification_id, topic_arn, allowed, reason, created_at)
VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (event_id, notification_id) DO NOTHING
