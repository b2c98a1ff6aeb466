INSERT INTO message (id, topic_id, kind, event_id, notification_id, subject, body, attributes,
                     published_by, ordering_key, trace, published_at, variants)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
