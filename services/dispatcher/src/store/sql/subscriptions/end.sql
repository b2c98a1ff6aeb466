UPDATE subscription
   SET state = 'ended', ended_at = $2, token_sha256 = $3, token_expires_at = $4
 WHERE id = $1 AND state <> 'ended'
