SELECT id, owner_id, vpc_id, name, acceptance_required, private_dns_name, proxy_protocol_v2,
       idle_timeout_seconds, created_at
  FROM endpoint_service
 WHERE owner_id = $1 AND id = ANY ($2::text[]) AND state = 'Available'
 ORDER BY id
   FOR UPDATE
