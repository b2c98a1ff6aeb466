-- The next events, at most $2: endpoints by their oldest unpublished event, and each endpoint's events
-- by sequence from the first unpublished one. The time of a row is when its transaction began, which
-- is not the order of an endpoint's events; the sequence is. Endpoints $1 wait.
WITH oldest AS (
    SELECT endpoint_id, created_at
      FROM outbox
     WHERE published_at IS NULL AND endpoint_id <> ALL ($1::text[])
     ORDER BY created_at, endpoint_id, sequence
     LIMIT $2
), due AS (
    SELECT endpoint_id, min(created_at) AS since
      FROM oldest
     GROUP BY endpoint_id
)
SELECT outbox.id, outbox.endpoint_id, outbox.kind, outbox.body::text, outbox.trace_context
  FROM due
  JOIN outbox ON outbox.endpoint_id = due.endpoint_id
 WHERE outbox.published_at IS NULL
 ORDER BY due.since, outbox.endpoint_id, outbox.sequence
 LIMIT $2
