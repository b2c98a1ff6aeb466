-- The interfaces that host $1 owns, among $2.
SELECT interface.id, interface.endpoint_id, interface.vpc_id, host(interface.address),
       interface.epoch, interface.zone_id, endpoint.state, endpoint.service_id, service.vpc_id,
       service.proxy_protocol_v2, service.idle_timeout_seconds,
       ARRAY(SELECT member.group_id
               FROM vpc_endpoint_group AS member
              WHERE member.endpoint_id = endpoint.id)
  FROM network_interface AS interface
  JOIN vpc_endpoint AS endpoint ON endpoint.id = interface.endpoint_id
  JOIN endpoint_service AS service ON service.id = endpoint.service_id
 WHERE interface.host_id = $1 AND interface.removed_at IS NULL AND interface.id = ANY ($2::text[])
