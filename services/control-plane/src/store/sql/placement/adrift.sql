-- Interfaces without a host and, if $2, interfaces whose host was not heard of for $1 seconds, by the
-- pair of VPCs that a host must reach.
SELECT DISTINCT interface.vpc_id, service.vpc_id
  FROM network_interface AS interface
  JOIN vpc_endpoint AS endpoint ON endpoint.id = interface.endpoint_id
  JOIN endpoint_service AS service ON service.id = endpoint.service_id
  LEFT JOIN host ON host.id = interface.host_id
 WHERE interface.removed_at IS NULL
   AND endpoint.state IN ('pendingAcceptance', 'pending', 'available', 'partial', 'rejected')
   AND (interface.host_id IS NULL
        OR ($2 AND (host.last_seen_at IS NULL
                    OR host.last_seen_at <= now() - make_interval(secs => $1))))
