INSERT INTO host_attachment (id, host_id, vpc_id, cidr, kind, interface_address, network_namespace)
VALUES ($1, $2, $3, $4::cidr, $5, $6::inet, $7)
RETURNING id, host_id, vpc_id, kind, host(interface_address) AS interface_address,
          network_namespace, resolver_endpoint, created_at
