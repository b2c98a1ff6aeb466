SELECT fingerprint, resource_id
  FROM client_token
 WHERE account_id = $1 AND action = $2 AND token = $3 AND created_at > $4
