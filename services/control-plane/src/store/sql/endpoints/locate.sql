SELECT vpc_id, service_id
  FROM vpc_endpoint
 WHERE id = $1 AND owner_id = $2
