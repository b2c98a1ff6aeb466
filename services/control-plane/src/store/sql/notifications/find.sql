SELECT id, owner_id, service_id, endpoint_id, topic_arn, events, state = 'Enabled' AS enabled,
       disabled_reason, created_at
  FROM connection_notification
 WHERE owner_id = $1 AND id = $2
