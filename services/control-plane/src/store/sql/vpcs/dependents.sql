-- What is left in a VPC, in words. Endpoints and services that are gone but still shown don't count.
SELECT what
  FROM (VALUES
        (1, 'an endpoint', EXISTS (
            SELECT FROM vpc_endpoint WHERE vpc_id = $1 AND deleted_at IS NULL)),
        (2, 'a network interface', EXISTS (SELECT FROM network_interface WHERE vpc_id = $1)),
        (3, 'an endpoint service', EXISTS (
            SELECT FROM endpoint_service WHERE vpc_id = $1 AND deleted_at IS NULL)),
        (4, 'a subnet', EXISTS (SELECT FROM subnet WHERE vpc_id = $1)),
        (5, 'a security group', EXISTS (
            SELECT FROM security_group WHERE vpc_id = $1 AND NOT is_default)),
        (6, 'a host attachment', EXISTS (SELECT FROM host_attachment WHERE vpc_id = $1))
       ) AS dependent (place, what, there)
 WHERE there
 ORDER BY place
