DELETE FROM subnet
 WHERE owner_id = $1 AND id = $2
