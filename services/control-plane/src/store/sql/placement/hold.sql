-- Holds VPCs ($1), so that no attachment of theirs goes until the commit.
SELECT id
  FROM vpc
 WHERE id = ANY ($1::text[])
 ORDER BY id
   FOR KEY SHARE
