-- An account's ($1) notifications, about a service ($2) and about an endpoint ($3) if given, after
-- $4, at most $5.
SELECT id, owner_id, service_id, endpoint_id, topic_arn, events, state = 'Enabled' AS enabled,
       disabled_reason, created_at
  FROM connection_notification
 WHERE owner_id = $1
   AND ($2::text IS NULL OR service_id = $2)
   AND ($3::text IS NULL OR endpoint_id = $3)
   AND id > COALESCE($4, '')
 ORDER BY id
 LIMIT $5
