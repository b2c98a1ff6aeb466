-- Holds the interfaces $2 of host $1, and those that it has let go of by generation $3, in the order that
-- all keep. What is not its own is held in vain, until the commit. Two statements would hold them in
-- two orders.
SELECT interface.id
  FROM network_interface AS interface
 WHERE interface.id IN (
           SELECT unnest($2::text[])
           UNION
           SELECT leaving.id
             FROM network_interface AS leaving
            WHERE leaving.host_id = $1
              AND leaving.removed_at IS NOT NULL
              AND leaving.change_generation <= $3)
   AND interface.host_id = $1
 ORDER BY interface.id
   FOR NO KEY UPDATE
