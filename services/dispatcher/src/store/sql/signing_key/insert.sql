-- Unless another replica was faster: one signs at a time.
INSERT INTO signing_key (private_key_pem, sealed, sealed_with, certificate_pem, certificate_sha256,
                         created_at)
VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT ((true)) WHERE retired_at IS NULL DO NOTHING
