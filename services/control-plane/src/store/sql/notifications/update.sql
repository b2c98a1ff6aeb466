UPDATE connection_notification
   SET topic_arn = COALESCE($3, topic_arn), events = COALESCE($4, events), state = 'Enabled',
       disabled_reason = '', denials = 0
 WHERE owner_id = $1 AND id = $2
RETURNING id, owner_id, service_id, endpoint_id, topic_arn, events, state = 'Enabled' AS enabled,
          disabled_reason, created_at
