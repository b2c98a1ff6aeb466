SELECT account_id
  FROM api_key
 WHERE secret_sha256 = $1
