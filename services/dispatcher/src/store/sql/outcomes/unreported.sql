SELECT id, event_id, notification_id, allowed, reason
  FROM outcome
 WHERE reported_at IS NULL
 ORDER BY id
 LIMIT $1
