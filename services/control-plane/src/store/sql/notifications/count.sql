SELECT count(*)
  FROM connection_notification
 WHERE service_id = $1 OR endpoint_id = $2
