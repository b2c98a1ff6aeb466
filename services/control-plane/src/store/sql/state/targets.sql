-- The listeners of these services ($1) with their targets; a listener without targets has one row.
SELECT listener.service_id, listener.port, host(target.address), target.port, target.zone_id
  FROM service_listener AS listener
  LEFT JOIN service_target AS target
       ON target.service_id = listener.service_id AND target.listener_port = listener.port
 WHERE listener.service_id = ANY ($1::text[])
