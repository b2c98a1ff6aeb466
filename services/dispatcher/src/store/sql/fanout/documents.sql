-- The documents of filters of the topics' ($1) subscriptions, by their hashes ($2).
SELECT DISTINCT ON (filter_sha256) filter_sha256, filter_scope, filter_policy
  FROM subscription
 WHERE topic_id = ANY ($1) AND filter_sha256 = ANY ($2) AND state <> 'ended'
 ORDER BY filter_sha256
