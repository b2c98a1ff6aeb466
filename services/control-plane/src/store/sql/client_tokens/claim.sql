-- Takes the token ($1 to $3) with its fingerprint ($4) for a resource ($5) at $6, unless a request
-- since $7 has it.
INSERT INTO client_token AS held (account_id, action, token, fingerprint, resource_id, created_at)
VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (account_id, action, token) DO UPDATE
   SET fingerprint = excluded.fingerprint, resource_id = excluded.resource_id,
       created_at = excluded.created_at
 WHERE held.created_at <= $7
