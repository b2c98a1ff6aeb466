-- The results of attempts, but for those whose claim has passed to somebody else.
WITH result AS (
    SELECT *
      FROM unnest($1::uuid[], $2::timestamptz[], $3::uuid[], $4::text[], $5::timestamptz[],
                  $6::timestamptz[], $7::bigint[], $8::integer[], $9::text[], $10::text[],
                  $11::integer[], $12::integer[], $13::text[], $14::timestamptz[])
           AS result (id, created_at, claim, state, at, started_at, duration_ms, status, error, address,
                      request_bytes, response_bytes, response, ended_at)
), done AS (
    UPDATE delivery
       SET state = result.state,
           attempts = delivery.attempts + 1,
           next_attempt_at = result.at,
           paced = false,
           claim = NULL,
           lease_until = '-infinity',
           token = CASE WHEN result.state = 'pending' THEN delivery.token END,
           last_status = result.status,
           last_error = result.error,
           ended_at = result.ended_at
      FROM result
     WHERE delivery.id = result.id AND delivery.created_at = result.created_at
       AND delivery.claim = result.claim AND delivery.state = 'pending'
    RETURNING delivery.id, delivery.created_at, delivery.attempts, delivery.topic_id
), noted AS (
    INSERT INTO attempt (delivery_id, number, topic_id, started_at, duration_ms, status, error,
                         address, request_bytes, response_bytes, response, created_at)
    SELECT done.id, done.attempts, done.topic_id, result.started_at, result.duration_ms, result.status,
           result.error, result.address, result.request_bytes, result.response_bytes, result.response,
           done.created_at
      FROM done
      JOIN result ON result.id = done.id
)
SELECT id FROM done
