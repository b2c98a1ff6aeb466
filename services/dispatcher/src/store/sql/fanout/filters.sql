-- The filters of the topics' subscriptions, each once for a topic.
SELECT DISTINCT topic_id, filter_sha256
  FROM subscription
 WHERE topic_id = ANY ($1) AND filter_sha256 IS NOT NULL AND state <> 'ended'
