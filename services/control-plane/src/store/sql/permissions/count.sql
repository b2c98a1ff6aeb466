SELECT count(*)
  FROM service_permission
 WHERE service_id = $1
