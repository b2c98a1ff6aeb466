DELETE FROM service_permission
 WHERE service_id = $1 AND principal = ANY ($2::text[])
