SELECT subscription.id, subscription.topic_id, topic.owner_id AS topic_owner_id, topic.region,
       topic.name AS topic_name, subscription.owner_id, subscription.principal,
       subscription.protocol, subscription.endpoint, subscription.target, subscription.state,
       subscription.guarded, subscription.raw, subscription.delivery_policy,
       topic.delivery_policy AS topic_delivery_policy, subscription.token_expires_at,
       subscription.created_at, subscription.confirmed_at, subscription.filter_policy,
       subscription.filter_scope, subscription.redrive_policy, subscription.ordered,
       subscription.digest_seconds, subscription.last_success_at, subscription.failure_streak,
       subscription.failing_since, subscription.disabled_at, subscription.disabled_reason
  FROM subscription
  JOIN topic ON topic.id = subscription.topic_id
 WHERE topic.owner_id = $1 AND topic.region = $2 AND topic.name = $3 AND subscription.id = $4
