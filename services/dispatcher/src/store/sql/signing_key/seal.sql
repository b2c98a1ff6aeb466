UPDATE signing_key
   SET private_key_pem = NULL, sealed = $2, sealed_with = $3
 WHERE id = $1 AND retired_at IS NULL
