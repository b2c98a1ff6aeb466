DELETE FROM service_listener
 WHERE service_id = $1
