SELECT zone_id, zone_name
  FROM account_zone
 WHERE account_id = $1
 ORDER BY zone_name
