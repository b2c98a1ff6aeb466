-- Takes due deliveries: at most $2 in all and $3 for each target, or as many as $4 and $5, side by side,
-- say for it. So a target that hangs takes no place from the others, and a long queue for one target
-- costs nothing to pass over: targets are found by skipping through the index, not by reading their
-- rows. Targets take turns. Nothing that is pending is older than $7: older days are not looked at.
WITH RECURSIVE waiting (target) AS (
    (SELECT target
       FROM delivery
      WHERE state = 'pending' AND created_at >= $7
      ORDER BY target
      LIMIT 1)
    UNION ALL
    SELECT (SELECT delivery.target
              FROM delivery
             WHERE delivery.state = 'pending' AND delivery.created_at >= $7
               AND delivery.target > waiting.target
             ORDER BY delivery.target
             LIMIT 1)
      FROM waiting
     WHERE waiting.target IS NOT NULL
), room AS (
    SELECT waiting.target, coalesce(known.places, $3) AS places
      FROM waiting
      LEFT JOIN unnest($4::text[], $5::bigint[]) AS known (target, places)
             ON known.target = waiting.target
     WHERE waiting.target IS NOT NULL AND coalesce(known.places, $3) > 0
), due AS (
    SELECT candidate.id, candidate.created_at
      FROM room
     CROSS JOIN LATERAL (
           SELECT next.*, row_number() OVER (ORDER BY next.next_attempt_at, next.seq) AS turn
             FROM (SELECT delivery.id, delivery.created_at, delivery.next_attempt_at, delivery.seq
                     FROM delivery
                    WHERE delivery.state = 'pending'
                      AND delivery.created_at >= $7
                      AND delivery.target = room.target
                      AND delivery.next_attempt_at <= $1
                      AND delivery.lease_until <= $1
                      -- First attempts of one key are made in order; where the subscription asks for
                      -- order, everything before must have ended.
                      AND NOT EXISTS (
                          SELECT 1
                            FROM delivery AS earlier
                           WHERE earlier.subscription_id = delivery.subscription_id
                             AND earlier.ordering_key = delivery.ordering_key
                             AND earlier.seq < delivery.seq
                             AND earlier.created_at >= $7
                             AND earlier.state = 'pending'
                             AND (earlier.attempts = 0 OR delivery.ordered))
                    ORDER BY delivery.next_attempt_at, delivery.seq
                    LIMIT room.places) AS next) AS candidate
     ORDER BY candidate.turn, candidate.next_attempt_at, candidate.seq
     LIMIT $2
), locked AS (
    SELECT delivery.id, delivery.created_at
      FROM due
      JOIN delivery ON delivery.id = due.id AND delivery.created_at = due.created_at
     WHERE delivery.state = 'pending'
       AND delivery.next_attempt_at <= $1
       AND delivery.lease_until <= $1
       FOR UPDATE OF delivery SKIP LOCKED
), claimed AS (
    UPDATE delivery
       SET claim = gen_random_uuid(), lease_until = $6
      FROM locked
     WHERE delivery.id = locked.id AND delivery.created_at = locked.created_at
    RETURNING delivery.*
)
SELECT claimed.id, claimed.created_at, claimed.claim, claimed.target, claimed.token, claimed.attempts,
       claimed.replayed_after, claimed.paced, claimed.next_attempt_at AS due_at,
       message.id AS message_id, message.kind, message.event_id, message.subject,
       coalesce(message.variants ->> subscription.protocol, message.body) AS body,
       message.attributes, message.trace, message.published_at,
       topic.owner_id AS topic_owner_id, topic.region, topic.name AS topic_name,
       topic.display_name, topic.signature_version,
       topic.delivery_policy AS topic_delivery_policy,
       subscription.id AS subscription_id, subscription.protocol, subscription.endpoint,
       subscription.raw, subscription.delivery_policy, subscription.state AS subscription_state,
       subscription.redrive_policy, subscription.webhook_secret,
       subscription.webhook_secret_previous, subscription.webhook_secret_previous_until
  FROM claimed
  JOIN message ON message.id = claimed.message_id AND message.published_at = claimed.created_at
  JOIN topic ON topic.id = claimed.topic_id
  JOIN subscription ON subscription.id = claimed.subscription_id
 ORDER BY claimed.seq
