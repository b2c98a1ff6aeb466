SELECT id, name, created_at
  FROM account
 WHERE id = $1
