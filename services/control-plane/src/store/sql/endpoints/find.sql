SELECT *
  FROM endpoint_view
 WHERE owner_id = $1 AND id = ANY ($2::text[])
 ORDER BY id
