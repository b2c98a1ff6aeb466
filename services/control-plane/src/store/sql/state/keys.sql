-- Everything that host $1 should be doing, by key: kind, object, VPC.
SELECT 'attachment', id, vpc_id
  FROM host_attachment
 WHERE host_id = $1
UNION ALL
SELECT 'interface', id, ''
  FROM network_interface
 WHERE host_id = $1 AND removed_at IS NULL
UNION ALL
SELECT 'names', endpoint.id, endpoint.vpc_id
  FROM host_attachment AS attachment
  JOIN vpc_endpoint AS endpoint ON endpoint.vpc_id = attachment.vpc_id
 WHERE attachment.host_id = $1 AND endpoint.deleted_at IS NULL
