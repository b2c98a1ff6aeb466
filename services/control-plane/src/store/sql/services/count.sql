SELECT count(*)
  FROM endpoint_service
 WHERE owner_id = $1 AND state = 'Available'
