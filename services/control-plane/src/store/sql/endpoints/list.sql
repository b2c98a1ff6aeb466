-- An account's ($1) endpoints, of a VPC ($2) and in a state ($3) if given, after $4, at most $5. A
-- branch for each kind of filter, of which one runs: each has an index that gives its rows in order.
WITH page AS (
    (SELECT *
       FROM vpc_endpoint
      WHERE $2::text IS NULL AND $3::text IS NULL
        AND owner_id = $1 AND id > COALESCE($4, '')
      ORDER BY id
      LIMIT $5)
    UNION ALL
    (SELECT *
       FROM vpc_endpoint
      WHERE $2::text IS NULL AND $3::text IS NOT NULL
        AND owner_id = $1 AND state = $3 AND id > COALESCE($4, '')
      ORDER BY id
      LIMIT $5)
    UNION ALL
    (SELECT *
       FROM vpc_endpoint
      WHERE $2::text IS NOT NULL
        AND vpc_id = $2 AND owner_id = $1 AND ($3::text IS NULL OR state = $3)
        AND id > COALESCE($4, '')
      ORDER BY id
      LIMIT $5)
)
SELECT endpoint.id, endpoint.connection_id, endpoint.owner_id, endpoint.vpc_id, endpoint.service_id,
       service.name AS service_name, endpoint.state, endpoint.label, endpoint.private_dns_name,
       endpoint.failure_reason, endpoint.revision, endpoint.created_at,
       ARRAY(SELECT carried.group_id
               FROM vpc_endpoint_group AS carried
              WHERE carried.endpoint_id = endpoint.id
              ORDER BY carried.group_id) AS group_ids,
       held.interface_ids, held.subnet_ids, held.zone_ids, held.zone_names
  FROM page AS endpoint
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
 ORDER BY endpoint.id
