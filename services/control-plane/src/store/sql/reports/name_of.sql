SELECT name
  FROM host
 WHERE id = $1
