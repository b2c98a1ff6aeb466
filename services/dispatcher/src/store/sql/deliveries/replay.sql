-- Makes ended deliveries due again, $7 at most: those of a topic ($1) that stand as $2 says (given up or
-- delivered), were made from $3 on and before $4, to the subscription $5 and of the id $6 where these are
-- given. Confirmations are not: their tokens are gone. Nothing goes to whom it must not go now.
WITH chosen AS (
    SELECT delivery.id, delivery.created_at
      FROM delivery
      JOIN message ON message.id = delivery.message_id
                  AND message.published_at = delivery.created_at
      JOIN subscription ON subscription.id = delivery.subscription_id
     WHERE delivery.topic_id = $1
       AND delivery.state = ANY ($2)
       AND ($3::timestamptz IS NULL OR delivery.created_at >= $3)
       AND ($4::timestamptz IS NULL OR delivery.created_at < $4)
       AND ($5::uuid IS NULL OR delivery.subscription_id = $5)
       AND ($6::uuid IS NULL OR delivery.id = $6)
       AND ($9::timestamptz IS NULL OR delivery.ended_at <= $9)
       AND message.kind IN ('Notification', 'Digest')
       AND subscription.state = 'confirmed'
     ORDER BY delivery.seq
     LIMIT $7
       FOR UPDATE OF delivery SKIP LOCKED
)
UPDATE delivery
   SET state = 'pending', ended_at = NULL, claim = NULL, lease_until = '-infinity', paced = false,
       replayed_after = attempts, next_attempt_at = $8
  FROM chosen
 WHERE delivery.id = chosen.id AND delivery.created_at = chosen.created_at
RETURNING delivery.id
