UPDATE endpoint_service
   SET acceptance_required = $2, private_dns_name = $3, proxy_protocol_v2 = $4,
       idle_timeout_seconds = $5
 WHERE id = $1
