-- The endpoints among $3 whose names host $1 answers, in the VPCs $2 that it reaches.
SELECT endpoint.id, endpoint.vpc_id, endpoint.service_id, endpoint.label, endpoint.published,
       endpoint.private_dns_name, vpc.enable_dns_support AND vpc.enable_dns_hostnames
  FROM unnest($2::text[], $3::text[]) AS wanted (vpc_id, endpoint_id)
  JOIN vpc_endpoint AS endpoint
       ON endpoint.id = wanted.endpoint_id AND endpoint.vpc_id = wanted.vpc_id
  JOIN vpc ON vpc.id = endpoint.vpc_id
  JOIN host_attachment AS attachment
       ON attachment.host_id = $1 AND attachment.vpc_id = endpoint.vpc_id
 WHERE endpoint.deleted_at IS NULL
