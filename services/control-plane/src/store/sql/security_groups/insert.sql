-- A group ($1) of VPC $2, of account $3; no row where the VPC has $6 already.
INSERT INTO security_group (id, vpc_id, owner_id, name, description)
SELECT $1, $2, $3, $4, $5
 WHERE (SELECT count(*) FROM security_group WHERE vpc_id = $2) < $6
RETURNING id, vpc_id, owner_id, name, description, created_at, '[]'::jsonb AS rules
