UPDATE lease
   SET expires_at = now()
 WHERE name = $1 AND holder = $2 AND token = $3
