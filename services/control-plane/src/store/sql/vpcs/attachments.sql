SELECT host_id, id
  FROM host_attachment
 WHERE vpc_id = $1
 ORDER BY id
