-- A claimed delivery whose subscription ended in the meantime.
UPDATE delivery
   SET state = 'dropped', ended_at = $4, token = NULL, claim = NULL
 WHERE id = $1 AND created_at = $2 AND claim = $3 AND state = 'pending'
