SELECT service_id, listener_port, address, port, zone_id
  FROM service_target
 WHERE service_id = ANY ($1::text[])
 ORDER BY service_id, listener_port, address, port
