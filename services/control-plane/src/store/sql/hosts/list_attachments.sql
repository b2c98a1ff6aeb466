SELECT id, host_id, vpc_id, kind, host(interface_address) AS interface_address, network_namespace,
       resolver_endpoint, created_at
  FROM host_attachment
 WHERE ($1::text IS NULL OR host_id = $1)
   AND ($2::text IS NULL OR vpc_id = $2)
   AND id > coalesce($3, '')
 ORDER BY id
 LIMIT $4
