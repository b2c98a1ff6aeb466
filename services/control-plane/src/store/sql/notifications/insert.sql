INSERT INTO connection_notification (id, owner_id, service_id, endpoint_id, topic_arn, events,
                                     created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
