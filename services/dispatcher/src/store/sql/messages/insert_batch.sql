INSERT INTO message (id, topic_id, kind, event_id, notification_id, subject, body, attributes,
                     published_by, ordering_key, trace, published_at)
SELECT id, topic_id, $3, event_id, notification_id, subject, body, attributes, $10, ordering_key, trace,
       $12
  FROM unnest($1::uuid[], $2::uuid[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::text[],
              $9::text[], $11::jsonb[])
       AS message (id, topic_id, event_id, notification_id, subject, body, attributes, ordering_key,
                   trace)
