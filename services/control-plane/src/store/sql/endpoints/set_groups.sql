-- Makes an endpoint ($1) carry just these groups ($2).
WITH dropped AS (
    DELETE FROM vpc_endpoint_group
     WHERE endpoint_id = $1 AND group_id <> ALL ($2::text[])
)
INSERT INTO vpc_endpoint_group (endpoint_id, group_id)
SELECT $1, unnest($2::text[])
    ON CONFLICT DO NOTHING
