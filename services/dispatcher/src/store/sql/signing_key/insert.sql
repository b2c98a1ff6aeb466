INSERT INTO signing_key (private_key_pem, certificate_pem, created_at)
VALUES ($1, $2, $3)
    ON CONFLICT (id) DO NOTHING
