-- What changed for host $1 after generation $2: at most $3 rows, the oldest first.
SELECT generation, kind, object_id, vpc_id, trace_context
  FROM host_change
 WHERE host_id = $1 AND generation > $2
 ORDER BY generation
 LIMIT $3
