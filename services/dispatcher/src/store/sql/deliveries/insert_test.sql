-- A test event to one subscription, by the path of all others.
INSERT INTO delivery (id, message_id, topic_id, subscription_id, target, next_attempt_at, created_at)
SELECT $1, $2, subscription.topic_id, subscription.id, subscription.target, $4, $4
  FROM subscription
 WHERE subscription.id = $3
