UPDATE vpc_endpoint
   SET private_dns_enabled = $2::text IS NOT NULL, private_dns_name = $2
 WHERE id = $1
