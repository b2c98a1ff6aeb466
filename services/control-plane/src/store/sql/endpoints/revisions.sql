-- The revisions of an account's ($1) endpoints: of those named ($2), or of all when none is.
SELECT id, revision
  FROM vpc_endpoint
 WHERE cardinality($2::text[]) = 0 AND owner_id = $1
UNION ALL
SELECT id, revision
  FROM vpc_endpoint
 WHERE cardinality($2::text[]) > 0 AND id = ANY ($2::text[]) AND owner_id = $1
