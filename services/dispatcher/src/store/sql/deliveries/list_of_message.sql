-- As list.sql, by the index of the message.
SELECT delivery.id, delivery.seq, delivery.message_id, topic.owner_id AS topic_owner_id, topic.region,
       topic.name AS topic_name, delivery.subscription_id, subscription.endpoint, message.kind,
       delivery.state, message.event_id, delivery.attempts, delivery.last_status,
       delivery.last_error, delivery.created_at, delivery.next_attempt_at, delivery.ended_at
  FROM delivery
  JOIN message ON message.id = delivery.message_id AND message.published_at = delivery.created_at
  JOIN topic ON topic.id = delivery.topic_id
  JOIN subscription ON subscription.id = delivery.subscription_id
 WHERE delivery.message_id = $4 AND delivery.topic_id = $1
   AND ($2::uuid IS NULL OR delivery.subscription_id = $2)
   AND ($3::text IS NULL OR delivery.state = $3)
   AND ($5::bigint IS NULL OR delivery.seq < $5)
   AND ($7::uuid IS NULL OR message.event_id = $7)
   AND ($8::timestamptz IS NULL OR delivery.created_at >= $8)
   AND ($9::timestamptz IS NULL OR delivery.created_at < $9)
 ORDER BY delivery.seq DESC
 LIMIT $6
