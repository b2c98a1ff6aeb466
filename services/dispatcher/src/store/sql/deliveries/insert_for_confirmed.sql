INSERT INTO delivery (id, message_id, topic_id, subscription_id, target, ordering_key,
                      next_attempt_at, created_at)
SELECT gen_random_uuid(), $1, subscription.topic_id, subscription.id, subscription.target, $3, $4, $4
  FROM subscription
 WHERE subscription.topic_id = $2 AND subscription.state = 'confirmed'
 ORDER BY subscription.id
