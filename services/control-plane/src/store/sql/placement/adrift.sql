-- Interfaces without a host and, if $2, interfaces whose host was not heard of for $1 seconds, by the
-- pair of VPCs that a host must reach. OFFSET 0 keeps the order of the steps: how many hosts are silent
-- can't be known when this is planned, and mostly none is.
WITH adrift AS (
    SELECT vpc_id, endpoint_id
      FROM network_interface
     WHERE host_id IS NULL AND removed_at IS NULL
    UNION ALL
    SELECT held.vpc_id, held.endpoint_id
      FROM host
     CROSS JOIN LATERAL (
           SELECT interface.vpc_id, interface.endpoint_id
             FROM network_interface AS interface
            WHERE interface.host_id = host.id AND interface.removed_at IS NULL
           OFFSET 0) AS held
     WHERE $2
       AND (host.last_seen_at IS NULL OR host.last_seen_at <= now() - make_interval(secs => $1))
)
SELECT DISTINCT adrift.vpc_id, target.vpc_id
  FROM adrift
 CROSS JOIN LATERAL (
       SELECT service.vpc_id
         FROM vpc_endpoint AS endpoint
         JOIN endpoint_service AS service ON service.id = endpoint.service_id
        WHERE endpoint.id = adrift.endpoint_id
          AND endpoint.state IN ('pendingAcceptance', 'pending', 'available', 'partial', 'rejected')
       OFFSET 0) AS target
