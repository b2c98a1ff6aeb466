-- Holds VPCs ($1) against new attachments until the commit.
SELECT id
  FROM vpc
 WHERE id = ANY ($1::text[])
 ORDER BY id
   FOR SHARE
