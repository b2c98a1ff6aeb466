-- The subscriptions whose oldest collected message has waited out the window at $1, or that have $2
-- messages; held, passing over those that another replica is at.
SELECT subscription.id, subscription.topic_id, subscription.target,
       subscription.state = 'confirmed' AND subscription.disabled_at IS NULL AS wanted
  FROM subscription
 WHERE subscription.id IN (
           SELECT digest_item.subscription_id
             FROM digest_item
             JOIN subscription AS collecting ON collecting.id = digest_item.subscription_id
            GROUP BY digest_item.subscription_id, collecting.digest_seconds
           HAVING min(digest_item.published_at)
                      + make_interval(secs => collecting.digest_seconds) <= $1
               OR count(*) >= $2
            ORDER BY min(digest_item.published_at)
            LIMIT $3)
 ORDER BY subscription.id
   FOR UPDATE SKIP LOCKED
