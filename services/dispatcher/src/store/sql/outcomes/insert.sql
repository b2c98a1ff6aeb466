INSERT INTO outcome (event_id, notification_id, topic_arn, allowed, reason, created_at)
SELECT event_id, notification_id, topic_arn, allowed, reason, $6
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::boolean[], $5::text[])
       AS outcome (event_id, notification_id, topic_arn, allowed, reason)
    ON CONFLICT (event_id, notification_id) DO NOTHING
