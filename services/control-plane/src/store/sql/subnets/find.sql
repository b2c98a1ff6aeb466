SELECT subnet.id, subnet.vpc_id, subnet.owner_id, subnet.cidr::text, subnet.zone_id, zone.zone_name,
       (SELECT count(*) FROM network_interface AS taken WHERE taken.subnet_id = subnet.id) AS taken,
       subnet.created_at
  FROM subnet
  JOIN account_zone AS zone
       ON zone.account_id = subnet.owner_id AND zone.zone_id = subnet.zone_id
 WHERE subnet.owner_id = $1 AND subnet.id = $2
