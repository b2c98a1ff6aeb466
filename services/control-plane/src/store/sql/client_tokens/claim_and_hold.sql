-- Takes the token ($1 to $3) as in client_tokens/claim, and then holds a service ($8), a VPC ($9) of
-- the account and the service's own VPC, as sites/hold does. Returns whether the token was taken.
WITH claimed AS (
    INSERT INTO client_token AS held (account_id, action, token, fingerprint, resource_id, created_at)
    VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (account_id, action, token) DO UPDATE
       SET fingerprint = excluded.fingerprint, resource_id = excluded.resource_id,
           created_at = excluded.created_at
     WHERE held.created_at <= $7
    RETURNING 1
), zeroth AS (
    SELECT count(*) AS taken
      FROM claimed
), offered AS (
    SELECT id, vpc_id
      FROM endpoint_service
     WHERE id = $8 AND (SELECT taken FROM zeroth) >= 0
       FOR SHARE
), first AS (
    SELECT min(vpc_id) AS vpc_id
      FROM offered
), near AS (
    SELECT id
      FROM vpc
     WHERE id = $9 AND owner_id = $1 AND (SELECT count(*) FROM first) = 1
       FOR NO KEY UPDATE
), second AS (
    SELECT count(*) AS held
      FROM near
), far AS (
    SELECT id
      FROM vpc
     WHERE id = (SELECT vpc_id FROM first) AND (SELECT held FROM second) >= 0
       FOR KEY SHARE
)
SELECT taken = 1 AND (SELECT count(*) FROM far) >= 0
  FROM zeroth
