-- Disabled notifications to a topic ($1), of any account, after $2, at most $3.
SELECT id, owner_id, service_id, endpoint_id, topic_arn, events, state = 'Enabled' AS enabled,
       disabled_reason, created_at
  FROM connection_notification
 WHERE topic_arn = $1 AND state = 'Disabled' AND id > $2
 ORDER BY id
 LIMIT $3
