SELECT endpoint.service_id, endpoint.id, endpoint.state,
       ARRAY(SELECT interface.id
               FROM network_interface AS interface
              WHERE interface.endpoint_id = endpoint.id AND interface.removed_at IS NULL
              ORDER BY interface.id) AS interface_ids,
       ARRAY(SELECT interface.zone_id
               FROM network_interface AS interface
              WHERE interface.endpoint_id = endpoint.id AND interface.removed_at IS NULL
              ORDER BY interface.id) AS zone_ids
  FROM vpc_endpoint AS endpoint
 WHERE endpoint.service_id = ANY ($1::text[]) AND endpoint.deleted_at IS NULL
 ORDER BY endpoint.id
