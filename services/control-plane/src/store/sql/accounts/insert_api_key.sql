INSERT INTO api_key (id, account_id, description, secret_sha256)
VALUES ($1, $2, $3, $4)
RETURNING id, account_id, description, created_at
