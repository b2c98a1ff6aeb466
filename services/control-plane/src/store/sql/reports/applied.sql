UPDATE host
   SET applied_generation = $3, last_seen_at = now(), connected = true
 WHERE id = $1 AND session = $2
