-- At most $5 of the interfaces of `adrift` in VPC $3 with targets in VPC $4, locked with their
-- endpoints. Those that somebody is changing are left for the next pass: nobody waits for us who
-- we wait for. The first condition finds them by indexes; the others are
-- looked at again should the wait for a row have changed it.
SELECT interface.id, interface.endpoint_id, interface.zone_id, interface.host_id, endpoint.published
  FROM network_interface AS interface
  JOIN vpc_endpoint AS endpoint ON endpoint.id = interface.endpoint_id
  JOIN endpoint_service AS service ON service.id = endpoint.service_id
  LEFT JOIN host ON host.id = interface.host_id
 WHERE interface.id IN (
           SELECT id
             FROM network_interface
            WHERE host_id IS NULL AND removed_at IS NULL AND vpc_id = $3
           UNION ALL
           SELECT held.id
             FROM host AS silent
             JOIN network_interface AS held ON held.host_id = silent.id
            WHERE $2
              AND (silent.last_seen_at IS NULL
                   OR silent.last_seen_at <= now() - make_interval(secs => $1))
              AND held.removed_at IS NULL AND held.vpc_id = $3)
   AND interface.removed_at IS NULL
   AND endpoint.state IN ('pendingAcceptance', 'pending', 'available', 'partial', 'rejected')
   AND (interface.host_id IS NULL
        OR ($2 AND (host.last_seen_at IS NULL
                    OR host.last_seen_at <= now() - make_interval(secs => $1))))
   AND interface.vpc_id = $3
   AND service.vpc_id = $4
 ORDER BY interface.id
 LIMIT $5
   FOR NO KEY UPDATE OF endpoint, interface SKIP LOCKED
