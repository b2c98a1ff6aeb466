-- Whether a topic has $2 subscriptions or more that are not ended.
SELECT EXISTS (SELECT 1
                 FROM subscription
                WHERE topic_id = $1 AND state <> 'ended'
               OFFSET $2 - 1)
