-- Who uses a group, in words. Endpoints that are gone but still shown don't count.
SELECT what
  FROM (VALUES
        (1, 'an endpoint', EXISTS (
            SELECT
              FROM vpc_endpoint_group AS member
              JOIN vpc_endpoint AS endpoint ON endpoint.id = member.endpoint_id
             WHERE member.group_id = $1 AND endpoint.deleted_at IS NULL)),
        (2, 'a rule of another group', EXISTS (
            SELECT
              FROM security_group_rule
             WHERE referenced_group_id = $1 AND group_id <> $1))
       ) AS dependent (place, what, there)
 WHERE there
 ORDER BY place
