-- Whether an interface on host $1 has its address, or its service's targets, in VPC $2.
SELECT EXISTS (
    SELECT
      FROM network_interface AS interface
      JOIN vpc_endpoint AS endpoint ON endpoint.id = interface.endpoint_id
      JOIN endpoint_service AS service ON service.id = endpoint.service_id
     WHERE interface.host_id = $1 AND (interface.vpc_id = $2 OR service.vpc_id = $2))
