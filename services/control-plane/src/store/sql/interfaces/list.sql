-- An account's ($1) interfaces: one ($2), of an endpoint ($3), of a VPC ($4) if given, after $5, at
-- most $6. Those that are to go are not shown any more. A branch for each kind of filter, as in
-- endpoints/list.
WITH page AS (
    (SELECT id
       FROM network_interface
      WHERE $2::text IS NOT NULL
        AND id = $2 AND owner_id = $1 AND removed_at IS NULL
        AND ($3::text IS NULL OR endpoint_id = $3) AND ($4::text IS NULL OR vpc_id = $4)
        AND id > COALESCE($5, ''))
    UNION ALL
    (SELECT id
       FROM network_interface
      WHERE $2::text IS NULL AND $3::text IS NOT NULL
        AND endpoint_id = $3 AND owner_id = $1 AND removed_at IS NULL
        AND ($4::text IS NULL OR vpc_id = $4) AND id > COALESCE($5, '')
      ORDER BY id
      LIMIT $6)
    UNION ALL
    (SELECT id
       FROM network_interface
      WHERE $2::text IS NULL AND $3::text IS NULL AND $4::text IS NOT NULL
        AND vpc_id = $4 AND owner_id = $1 AND removed_at IS NULL AND id > COALESCE($5, '')
      ORDER BY id
      LIMIT $6)
    UNION ALL
    (SELECT id
       FROM network_interface
      WHERE $2::text IS NULL AND $3::text IS NULL AND $4::text IS NULL
        AND owner_id = $1 AND removed_at IS NULL AND id > COALESCE($5, '')
      ORDER BY id
      LIMIT $6)
)
SELECT interface.id, interface.endpoint_id, interface.owner_id, interface.vpc_id,
       interface.subnet_id, interface.zone_id, zone.zone_name, interface.address, interface.bound,
       ARRAY(SELECT carried.group_id
               FROM vpc_endpoint_group AS carried
              WHERE carried.endpoint_id = interface.endpoint_id
              ORDER BY carried.group_id) AS group_ids,
       COALESCE(used.bytes_in, 0) AS bytes_in, COALESCE(used.bytes_out, 0) AS bytes_out,
       COALESCE(used.active_connections, 0) AS active_connections,
       COALESCE(used.total_connections, 0) AS total_connections, interface.created_at
  FROM page
  JOIN network_interface AS interface ON interface.id = page.id
  JOIN account_zone AS zone
    ON zone.account_id = interface.owner_id AND zone.zone_id = interface.zone_id
  LEFT JOIN interface_usage AS used ON used.network_interface_id = interface.id
 ORDER BY interface.id
