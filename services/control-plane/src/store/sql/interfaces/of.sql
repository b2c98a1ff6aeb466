SELECT id, endpoint_id, subnet_id, zone_id, host_id,
       host_id IS NOT NULL AND bound AND bound_generation >= change_generation AS up_to_date,
       bind_error, removed_at IS NOT NULL AS removed
  FROM network_interface
 WHERE endpoint_id = ANY ($1::text[])
 ORDER BY endpoint_id, zone_id, id
