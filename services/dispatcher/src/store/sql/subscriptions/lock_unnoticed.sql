-- Disabled subscriptions whose topic's owner was not told; held, passing over those that another replica
-- is at.
SELECT subscription.id, topic.owner_id AS topic_owner_id, topic.region, topic.name AS topic_name,
       topic.notice_topic_arn, subscription.owner_id, subscription.protocol, subscription.endpoint,
       subscription.failure_streak, subscription.disabled_at, subscription.disabled_reason
  FROM subscription
  JOIN topic ON topic.id = subscription.topic_id
 WHERE subscription.disabled_at IS NOT NULL AND subscription.disabled_noticed_at IS NULL
 ORDER BY subscription.disabled_at
 LIMIT $1
   FOR UPDATE OF subscription SKIP LOCKED
