-- Messages ($1, side by side their topics, $2, and ordering keys, $3), published at $4, to every confirmed
-- subscription that is enabled: a delivery, or a place in its next digest. Not to those whose filter ($6)
-- a message ($5) does not pass: a filter that was set a moment ago, and not looked at, lets it through.
WITH published AS (
    SELECT *
      FROM unnest($1::uuid[], $2::uuid[], $3::text[])
           WITH ORDINALITY AS published (message_id, topic_id, ordering_key, place)
), refused AS (
    SELECT * FROM unnest($5::uuid[], $6::bytea[]) AS refused (message_id, filter_sha256)
), wanted AS (
    SELECT published.*, subscription.id AS subscription_id, subscription.target,
           subscription.protocol, subscription.digest_seconds, subscription.ordered
      FROM published
      JOIN subscription ON subscription.topic_id = published.topic_id
     WHERE subscription.state = 'confirmed' AND subscription.disabled_at IS NULL
       AND (subscription.filter_sha256 IS NULL
            -- NOT IN is looked up in a hash table; of these columns none is null.
            OR (published.message_id, subscription.filter_sha256)
               NOT IN (SELECT refused.message_id, refused.filter_sha256 FROM refused))
), digested AS (
    INSERT INTO digest_item (subscription_id, message_id, subject, body, published_at)
    SELECT wanted.subscription_id, message.id, message.subject,
           coalesce(message.variants ->> wanted.protocol, message.body), message.published_at
      FROM wanted
      JOIN message ON message.id = wanted.message_id AND message.published_at = $4
     WHERE wanted.digest_seconds > 0
     ORDER BY wanted.place
        ON CONFLICT DO NOTHING
)
INSERT INTO delivery (id, message_id, topic_id, subscription_id, target, ordering_key, ordered,
                      next_attempt_at, created_at)
SELECT gen_random_uuid(), message_id, topic_id, subscription_id, target, ordering_key, ordered, $4, $4
  FROM wanted
 WHERE digest_seconds = 0
 ORDER BY place, subscription_id
