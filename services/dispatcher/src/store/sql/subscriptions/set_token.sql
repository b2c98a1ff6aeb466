UPDATE subscription SET token_sha256 = $2, token_expires_at = $3 WHERE id = $1
