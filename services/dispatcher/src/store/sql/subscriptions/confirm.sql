UPDATE subscription
   SET state = 'confirmed', confirmed_at = $2, guarded = $3, ended_at = NULL
 WHERE id = $1 AND state IN ('pending', 'ended')
