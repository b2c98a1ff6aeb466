SELECT id, account_id, description, created_at
  FROM api_key
 WHERE account_id = $1 AND id > coalesce($2, '')
 ORDER BY id
 LIMIT $3
