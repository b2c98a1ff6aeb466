-- How many events wait, and for how many seconds the oldest.
SELECT count(*), coalesce(extract(epoch FROM now() - min(created_at)), 0)::float8
  FROM outbox
 WHERE published_at IS NULL
