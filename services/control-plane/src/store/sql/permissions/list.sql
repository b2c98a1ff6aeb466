SELECT id, principal
  FROM service_permission
 WHERE service_id = $1 AND ($2::text IS NULL OR id > $2)
 ORDER BY id
 LIMIT $3
