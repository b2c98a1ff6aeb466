SELECT delivery.id, delivery.seq, delivery.message_id, topic.owner_id AS topic_owner_id, topic.region,
       topic.name AS topic_name, delivery.subscription_id, subscription.endpoint, message.kind,
       delivery.state, message.event_id, delivery.attempts, delivery.last_status,
       delivery.last_error, delivery.created_at, delivery.next_attempt_at, delivery.ended_at
  FROM delivery
  JOIN message ON message.id = delivery.message_id AND message.published_at = delivery.created_at
  JOIN topic ON topic.id = delivery.topic_id
  JOIN subscription ON subscription.id = delivery.subscription_id
 WHERE topic.owner_id = $1 AND topic.region = $2 AND delivery.id = $3
