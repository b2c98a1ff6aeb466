DELETE FROM host_attachment
 WHERE id = $1
