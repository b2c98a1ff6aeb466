-- A VPC of whichever account: for the operator.
SELECT id, owner_id, name, cidr::text, enable_dns_support, enable_dns_hostnames, created_at
  FROM vpc
 WHERE id = $1
   FOR UPDATE
