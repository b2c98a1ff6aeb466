-- The one that signs first, then the retired.
SELECT id, private_key_pem, sealed, sealed_with, certificate_pem, certificate_sha256, created_at,
       retired_at
  FROM signing_key
 ORDER BY retired_at DESC NULLS FIRST, id DESC
