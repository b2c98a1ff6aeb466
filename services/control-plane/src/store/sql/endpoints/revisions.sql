SELECT id, revision
  FROM vpc_endpoint
 WHERE owner_id = $1 AND (cardinality($2::text[]) = 0 OR id = ANY ($2::text[]))
