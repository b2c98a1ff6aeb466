SELECT id, owner_id, service_id, endpoint_id, topic_arn, events
  FROM connection_notification
 WHERE state = 'Enabled' AND $1 = ANY (events)
   AND (service_id = ANY ($2::text[]) OR endpoint_id = ANY ($3::text[]))
 ORDER BY id
