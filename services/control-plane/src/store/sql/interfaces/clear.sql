-- What is left of an endpoint's ($1) interfaces when their hosts have let go; addresses rest from $2.
-- Held first in the order that all keep: somebody may still wait for one of them.
WITH held AS (
    SELECT id
      FROM network_interface
     WHERE endpoint_id = $1 AND removed_at IS NOT NULL AND host_id IS NULL
     ORDER BY id
       FOR UPDATE
), gone AS (
    DELETE FROM network_interface AS interface
     USING held
     WHERE interface.id = held.id
    RETURNING interface.vpc_id, interface.address
)
INSERT INTO released_address (vpc_id, address, released_at)
SELECT vpc_id, address, $2
  FROM gone
    ON CONFLICT (vpc_id, address) DO UPDATE
   SET released_at = excluded.released_at
