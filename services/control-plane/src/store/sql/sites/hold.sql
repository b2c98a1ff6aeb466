-- Holds a service ($1), then the VPC ($2) of an account ($3), then the service's own VPC. Each step
-- asks for the outcome of the one before, so that the locks are taken in the order that all keep.
WITH offered AS (
    SELECT id, vpc_id
      FROM endpoint_service
     WHERE id = $1
       FOR SHARE
), first AS (
    SELECT min(vpc_id) AS vpc_id
      FROM offered
), near AS (
    SELECT id
      FROM vpc
     WHERE id = $2 AND owner_id = $3 AND (SELECT count(*) FROM first) = 1
       FOR NO KEY UPDATE
), second AS (
    SELECT count(*) AS held
      FROM near
), far AS (
    SELECT id
      FROM vpc
     WHERE id = (SELECT vpc_id FROM first) AND (SELECT held FROM second) >= 0
       FOR KEY SHARE
)
SELECT count(*)
  FROM far
