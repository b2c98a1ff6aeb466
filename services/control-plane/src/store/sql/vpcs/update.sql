UPDATE vpc
   SET enable_dns_support = $2, enable_dns_hostnames = $3
 WHERE id = $1
