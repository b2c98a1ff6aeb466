-- The attachments of host $1 among $2.
SELECT attachment.id, attachment.vpc_id, attachment.cidr::text, vpc.enable_dns_support,
       attachment.kind, host(attachment.interface_address), attachment.network_namespace
  FROM host_attachment AS attachment
  JOIN vpc ON vpc.id = attachment.vpc_id
 WHERE attachment.host_id = $1 AND attachment.id = ANY ($2::text[])
