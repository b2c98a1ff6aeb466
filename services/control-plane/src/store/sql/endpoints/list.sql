-- An account's ($1) endpoints, of a VPC ($2) and in a state ($3) if given, after $4, at most $5.
SELECT *
  FROM endpoint_view
 WHERE owner_id = $1
   AND ($2::text IS NULL OR vpc_id = $2)
   AND ($3::text IS NULL OR state = $3)
   AND id > COALESCE($4, '')
 ORDER BY id
 LIMIT $5
