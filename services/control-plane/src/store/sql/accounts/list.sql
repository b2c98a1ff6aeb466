SELECT id, name, created_at
  FROM account
 WHERE id > coalesce($1, '')
 ORDER BY id
 LIMIT $2
