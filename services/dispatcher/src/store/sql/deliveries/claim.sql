-- Takes due deliveries: at most $2 in all and, for each target, at most $3 less what is under way to
-- it already ($4 and $5, side by side). So a target that hangs takes no place from the others, and a
-- long queue for one target costs nothing to pass over: targets are found by skipping through the
-- index, not by reading their rows.
WITH RECURSIVE waiting (target) AS (
    (SELECT target FROM delivery WHERE state = 'pending' ORDER BY target LIMIT 1)
    UNION ALL
    SELECT (SELECT delivery.target
              FROM delivery
             WHERE delivery.state = 'pending' AND delivery.target > waiting.target
             ORDER BY delivery.target
             LIMIT 1)
      FROM waiting
     WHERE waiting.target IS NOT NULL
), room AS (
    SELECT waiting.target, $3 - coalesce(busy.deliveries, 0) AS places
      FROM waiting
      LEFT JOIN unnest($4::text[], $5::bigint[]) AS busy (target, deliveries)
             ON busy.target = waiting.target
     WHERE waiting.target IS NOT NULL
), due AS (
    SELECT candidate.id
      FROM room
     CROSS JOIN LATERAL (
           SELECT next.id, next.next_attempt_at, next.seq,
                  row_number() OVER (ORDER BY next.next_attempt_at, next.seq) AS place
             FROM (SELECT delivery.id, delivery.next_attempt_at, delivery.seq
                     FROM delivery
                    WHERE delivery.state = 'pending'
                      AND delivery.target = room.target
                      AND delivery.next_attempt_at <= $1
                      -- First attempts of one key are made in order.
                      AND NOT EXISTS (
                          SELECT 1
                            FROM delivery AS earlier
                           WHERE earlier.subscription_id = delivery.subscription_id
                             AND earlier.ordering_key = delivery.ordering_key
                             AND earlier.seq < delivery.seq
                             AND earlier.state = 'pending'
                             AND earlier.attempts = 0)
                    ORDER BY delivery.next_attempt_at, delivery.seq
                    LIMIT $3) AS next) AS candidate
     WHERE candidate.place <= room.places
     ORDER BY candidate.next_attempt_at, candidate.seq
     LIMIT $2
), locked AS (
    SELECT delivery.id
      FROM delivery
     WHERE delivery.id IN (SELECT due.id FROM due)
       AND delivery.state = 'pending'
       AND delivery.next_attempt_at <= $1
       FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE delivery
       SET claim = gen_random_uuid(), next_attempt_at = $6
      FROM locked
     WHERE delivery.id = locked.id
    RETURNING delivery.*
)
SELECT claimed.id, claimed.claim, claimed.target, claimed.token, claimed.attempts,
       message.id AS message_id, message.kind, message.event_id, message.subject, message.body,
       message.attributes, message.trace, message.published_at,
       topic.owner_id AS topic_owner_id, topic.region, topic.name AS topic_name,
       topic.display_name, topic.signature_version,
       topic.delivery_policy AS topic_delivery_policy,
       subscription.id AS subscription_id, subscription.protocol, subscription.endpoint,
       subscription.raw, subscription.delivery_policy, subscription.state AS subscription_state
  FROM claimed
  JOIN message ON message.id = claimed.message_id
  JOIN topic ON topic.id = claimed.topic_id
  JOIN subscription ON subscription.id = claimed.subscription_id
 ORDER BY claimed.seq
