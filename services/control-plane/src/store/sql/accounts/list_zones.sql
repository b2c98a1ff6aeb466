SELECT zone_name, zone_id
  FROM account_zone
 WHERE account_id = $1 AND zone_name > coalesce($2, '')
 ORDER BY zone_name
 LIMIT $3
