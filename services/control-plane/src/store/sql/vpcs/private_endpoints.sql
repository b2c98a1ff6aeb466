-- The endpoints whose private names the VPC's attributes decide on.
SELECT id
  FROM vpc_endpoint
 WHERE vpc_id = $1 AND private_dns_enabled AND deleted_at IS NULL
 ORDER BY id
