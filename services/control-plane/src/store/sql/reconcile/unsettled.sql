-- Endpoints that may move on: every interface is up to date, or the wait ended (pending since before
-- $1), or an interface that is to go was let go of. After id $2, at most $3.
SELECT endpoint.id
  FROM vpc_endpoint AS endpoint
 WHERE endpoint.id > $2
   AND ((endpoint.state = 'pending' AND endpoint.state_changed_at <= $1)
        OR (endpoint.state IN ('pending', 'partial')
            AND NOT EXISTS (
                SELECT 1
                  FROM network_interface AS interface
                 WHERE interface.endpoint_id = endpoint.id
                   AND interface.removed_at IS NULL
                   AND NOT (interface.bound
                            AND interface.bound_generation >= interface.change_generation)))
        OR (endpoint.state = 'deleting'
            AND NOT EXISTS (
                SELECT 1
                  FROM network_interface AS interface
                 WHERE interface.endpoint_id = endpoint.id AND interface.host_id IS NOT NULL))
        OR endpoint.id IN (
                SELECT interface.endpoint_id
                  FROM network_interface AS interface
                 WHERE interface.host_id IS NULL AND interface.removed_at IS NOT NULL))
 ORDER BY endpoint.id
 LIMIT $3
