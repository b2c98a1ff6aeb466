UPDATE host
   SET connected = false
 WHERE id = $1 AND session = $2
