-- Those of an account's ($1) endpoints that are named ($2), by id.
SELECT endpoint.id, endpoint.connection_id, endpoint.owner_id, endpoint.vpc_id, endpoint.service_id,
       service.name AS service_name, endpoint.state, endpoint.label, endpoint.private_dns_name,
       endpoint.failure_reason, endpoint.revision, endpoint.created_at,
       ARRAY(SELECT carried.group_id
               FROM vpc_endpoint_group AS carried
              WHERE carried.endpoint_id = endpoint.id
              ORDER BY carried.group_id) AS group_ids,
       held.interface_ids, held.subnet_ids, held.zone_ids, held.zone_names
  FROM vpc_endpoint AS endpoint
  JOIN endpoint_service AS service ON service.id = endpoint.service_id
 CROSS JOIN LATERAL (
       -- Sorted once for the four.
       SELECT array_agg(sorted.id) AS interface_ids, array_agg(sorted.subnet_id) AS subnet_ids,
              array_agg(sorted.zone_id) AS zone_ids, array_agg(sorted.zone_name) AS zone_names
         FROM (SELECT interface.id, interface.subnet_id, interface.zone_id, zone.zone_name
                 FROM network_interface AS interface
                 JOIN account_zone AS zone
                   ON zone.account_id = interface.owner_id AND zone.zone_id = interface.zone_id
                WHERE interface.endpoint_id = endpoint.id AND interface.removed_at IS NULL
                ORDER BY interface.zone_id) AS sorted) AS held
 WHERE endpoint.owner_id = $1 AND endpoint.id = ANY ($2::text[])
 ORDER BY endpoint.id
