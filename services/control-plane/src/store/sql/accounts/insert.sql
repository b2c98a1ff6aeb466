-- An account ($1, named $2) with its own names ($3) for the zones ($4).
WITH made AS (
    INSERT INTO account (id, name)
    VALUES ($1, $2)
    RETURNING id, name, created_at
), zoned AS (
    INSERT INTO account_zone (account_id, zone_name, zone_id)
    SELECT made.id, zone.zone_name, zone.zone_id
      FROM made, unnest($3::text[], $4::text[]) AS zone (zone_name, zone_id)
)
SELECT id, name, created_at
  FROM made
