-- The meters of interfaces that host $1 owns, in the agent's run $2: ids ($3), bytes in ($4) and out
-- ($5), connections in all ($6), failed ($7) and open ($8). What the same run reported before is in the
-- sums already; a new run starts from zero.
WITH said AS (
    SELECT DISTINCT ON (id) id, bytes_in, bytes_out, total, failed, active
      FROM unnest($3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[])
           AS given (id, bytes_in, bytes_out, total, failed, active)
     ORDER BY id
), own AS (
    SELECT interface.id
      FROM network_interface AS interface
     WHERE interface.id IN (SELECT id FROM said) AND interface.host_id = $1
     ORDER BY interface.id
       -- One that is being deleted takes its meters with it: who deletes it may wait for those, so this
       -- must not wait for it.
       FOR KEY SHARE SKIP LOCKED
)
INSERT INTO interface_usage AS usage (
       network_interface_id, boot_id, bytes_in, bytes_in_seen, bytes_out, bytes_out_seen,
       total_connections, total_seen, failed_connections, failed_seen, active_connections)
SELECT said.id, $2, said.bytes_in, said.bytes_in, said.bytes_out, said.bytes_out,
       said.total, said.total, said.failed, said.failed, said.active
  FROM said
  JOIN own ON own.id = said.id
 ORDER BY said.id
ON CONFLICT (network_interface_id) DO UPDATE
   SET boot_id = EXCLUDED.boot_id,
       bytes_in = usage.bytes_in + GREATEST(0, EXCLUDED.bytes_in_seen
           - CASE WHEN usage.boot_id = EXCLUDED.boot_id THEN usage.bytes_in_seen ELSE 0 END),
       bytes_out = usage.bytes_out + GREATEST(0, EXCLUDED.bytes_out_seen
           - CASE WHEN usage.boot_id = EXCLUDED.boot_id THEN usage.bytes_out_seen ELSE 0 END),
       total_connections = usage.total_connections + GREATEST(0, EXCLUDED.total_seen
           - CASE WHEN usage.boot_id = EXCLUDED.boot_id THEN usage.total_seen ELSE 0 END),
       failed_connections = usage.failed_connections + GREATEST(0, EXCLUDED.failed_seen
           - CASE WHEN usage.boot_id = EXCLUDED.boot_id THEN usage.failed_seen ELSE 0 END),
       bytes_in_seen = EXCLUDED.bytes_in_seen,
       bytes_out_seen = EXCLUDED.bytes_out_seen,
       total_seen = EXCLUDED.total_seen,
       failed_seen = EXCLUDED.failed_seen,
       active_connections = EXCLUDED.active_connections
