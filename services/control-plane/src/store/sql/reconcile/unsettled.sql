-- Endpoints that may move on: every interface is up to date, or the wait ended (pending since before
-- $1), or an interface that is to go was let go of. After id $2, at most $3. Each branch reads those
-- that are on their way, by an index that has only them, and OFFSET 0 has their interfaces looked up for each
-- instead of all being read.
SELECT id
  FROM (SELECT endpoint.id
          FROM vpc_endpoint AS endpoint
         WHERE endpoint.state IN ('pending', 'partial')
           AND ((endpoint.state = 'pending' AND endpoint.state_changed_at <= $1)
                OR NOT EXISTS (
                    SELECT
                      FROM network_interface AS interface
                     WHERE interface.endpoint_id = endpoint.id
                       AND interface.removed_at IS NULL
                       AND NOT (interface.bound
                                AND interface.bound_generation >= interface.change_generation)
                    OFFSET 0))
        UNION
        SELECT endpoint.id
          FROM vpc_endpoint AS endpoint
         WHERE endpoint.state = 'deleting'
           AND NOT EXISTS (
                SELECT
                  FROM network_interface AS interface
                 WHERE interface.endpoint_id = endpoint.id AND interface.host_id IS NOT NULL
                OFFSET 0)
        UNION
        SELECT interface.endpoint_id
          FROM network_interface AS interface
         WHERE interface.host_id IS NULL AND interface.removed_at IS NOT NULL) AS unsettled
 WHERE id > $2
 ORDER BY id
 LIMIT $3
