-- Every endpoint that a host may hold names of in these VPCs ($1), deleted ones included: while the
-- host had no attachment, it did not hear of their end.
SELECT id, vpc_id
  FROM vpc_endpoint
 WHERE vpc_id = ANY ($1::text[])
