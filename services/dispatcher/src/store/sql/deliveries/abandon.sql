-- A claimed delivery whose subscription ended in the meantime.
UPDATE delivery
   SET state = 'dropped', ended_at = $2, token = NULL, claim = NULL
 WHERE claim = $1 AND state = 'pending'
