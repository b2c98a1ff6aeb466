-- What is left of an endpoint's ($1) interfaces when their hosts have let go; addresses rest from $2.
WITH gone AS (
    DELETE FROM network_interface
     WHERE endpoint_id = $1 AND removed_at IS NOT NULL AND host_id IS NULL
    RETURNING vpc_id, address
)
INSERT INTO released_address (vpc_id, address, released_at)
SELECT vpc_id, address, $2
  FROM gone
    ON CONFLICT (vpc_id, address) DO UPDATE
   SET released_at = excluded.released_at
