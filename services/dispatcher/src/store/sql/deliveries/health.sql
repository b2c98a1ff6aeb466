-- How subscriptions do, after a batch of results. $2: whether one of its messages was taken ($5: when);
-- $3: how many were given up since ($4: the first when). A subscription is disabled after $7 in a row
-- whose first was before $8. A success is written down at most every ten seconds.
WITH result AS (
    SELECT *
      FROM unnest($1::uuid[], $2::boolean[], $3::integer[], $4::timestamptz[], $5::timestamptz[])
           AS result (id, taken, failures, failed_at, taken_at)
), now AS (
    SELECT subscription.id, result.taken_at,
           CASE WHEN result.taken THEN result.failures
                ELSE subscription.failure_streak + result.failures END AS streak,
           CASE WHEN result.taken OR subscription.failure_streak = 0 THEN result.failed_at
                ELSE subscription.failing_since END AS failing_since
      FROM result
      JOIN subscription ON subscription.id = result.id
     WHERE result.failures > 0 OR subscription.failure_streak > 0
        OR subscription.last_success_at IS NULL
        OR subscription.last_success_at < result.taken_at - interval '10 seconds'
     ORDER BY subscription.id
       FOR NO KEY UPDATE OF subscription
)
UPDATE subscription
   SET last_success_at = coalesce(now.taken_at, subscription.last_success_at),
       failure_streak = now.streak,
       failing_since = now.failing_since,
       disabled_at = CASE WHEN subscription.disabled_at IS NULL AND now.streak >= $7
                           AND now.failing_since <= $8 THEN $6 ELSE subscription.disabled_at END,
       disabled_reason = CASE WHEN subscription.disabled_at IS NULL AND now.streak >= $7
                               AND now.failing_since <= $8
                              THEN now.streak || ' messages in a row were given up, the first at '
                                   || to_char(now.failing_since AT TIME ZONE 'UTC',
                                              'YYYY-MM-DD"T"HH24:MI:SS"Z"')
                              ELSE subscription.disabled_reason END
  FROM now
 WHERE subscription.id = now.id
RETURNING subscription.id, subscription.disabled_at = $6 AS disabled
