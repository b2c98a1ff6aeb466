-- The host named $2, standing in zone $3; with id $1 if it is new.
INSERT INTO host (id, name, zone_id)
VALUES ($1, $2, $3)
ON CONFLICT ON CONSTRAINT host_name_once DO UPDATE SET zone_id = EXCLUDED.zone_id
RETURNING id
