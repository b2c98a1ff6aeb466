SELECT id, owner_id, name, cidr::text, enable_dns_support, enable_dns_hostnames, created_at
  FROM vpc
 WHERE owner_id = $1 AND id > coalesce($2, '')
 ORDER BY id
 LIMIT $3
