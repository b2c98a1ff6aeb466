-- A host ($1) has applied a generation ($2): it has let go of what it was told to until then.
WITH held AS (
    SELECT id
      FROM network_interface
     WHERE host_id = $1 AND removed_at IS NOT NULL AND change_generation <= $2
     ORDER BY id
       -- The lock that everybody takes on interfaces, in the order that all keep. A stronger one would
       -- wait for meters that are being written down, which hold the rows by their foreign key.
       FOR NO KEY UPDATE
), released AS (
    UPDATE network_interface AS interface
       SET host_id = NULL, bound = false
      FROM held
     WHERE interface.id = held.id
    RETURNING interface.endpoint_id
)
SELECT DISTINCT endpoint_id
  FROM released
