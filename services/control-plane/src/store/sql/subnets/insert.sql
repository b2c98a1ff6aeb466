-- A subnet ($1) of VPC $2, of account $3, with range $4 in zone $5; no row where the VPC has $6 already.
WITH made AS (
    INSERT INTO subnet (id, vpc_id, owner_id, cidr, zone_id)
    SELECT $1, $2, $3, $4::cidr, $5
     WHERE (SELECT count(*) FROM subnet WHERE vpc_id = $2) < $6
    RETURNING *
)
SELECT made.id, made.vpc_id, made.owner_id, made.cidr::text, made.zone_id, zone.zone_name,
       0::bigint AS taken, made.created_at
  FROM made
  JOIN account_zone AS zone
       ON zone.account_id = made.owner_id AND zone.zone_id = made.zone_id
