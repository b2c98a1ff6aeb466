-- Gives up what has waited for a target that does not answer since before $2; $4 at most. What is to go to
-- a queue then goes there, as the bare message.
WITH given_up AS (
    UPDATE delivery
       SET state = 'dead-lettered', ended_at = $3, token = NULL, claim = NULL, last_error = $5
     WHERE (id, created_at) IN (SELECT delivery.id, delivery.created_at
                                  FROM delivery
                                 WHERE delivery.state = 'pending'
                                   AND delivery.target = $1
                                   AND delivery.next_attempt_at < $2
                                   AND delivery.lease_until <= $3
                                 ORDER BY delivery.next_attempt_at, delivery.seq
                                 LIMIT $4)
       AND state = 'pending' AND lease_until <= $3
    RETURNING id, created_at, message_id, topic_id, subscription_id, attempts, last_status
), queued AS (
    INSERT INTO redrive (delivery_id, message_id, topic_arn, subscription_id, queue_arn, body,
                         attempts, status, error, given_up_at)
    SELECT given_up.id, given_up.message_id,
           format('arn:aws:sns:%s:%s:%s', topic.region, topic.owner_id, topic.name),
           given_up.subscription_id, subscription.redrive_policy::jsonb ->> 'deadLetterTargetArn',
           message.body, given_up.attempts, given_up.last_status, $5, $3
      FROM given_up
      JOIN message ON message.id = given_up.message_id
                  AND message.published_at = given_up.created_at
      JOIN topic ON topic.id = given_up.topic_id
      JOIN subscription ON subscription.id = given_up.subscription_id
     WHERE message.kind = 'Notification'
       AND subscription.redrive_policy::jsonb ->> 'deadLetterTargetArn' IS NOT NULL
)
SELECT count(*) FROM given_up
