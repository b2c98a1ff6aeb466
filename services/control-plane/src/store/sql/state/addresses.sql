-- The addresses of these endpoints ($1), with what their owners call the zones.
SELECT interface.endpoint_id, host(interface.address), interface.bound, zone.zone_name
  FROM network_interface AS interface
  JOIN account_zone AS zone
       ON zone.account_id = interface.owner_id AND zone.zone_id = interface.zone_id
 WHERE interface.endpoint_id = ANY ($1::text[]) AND interface.removed_at IS NULL
