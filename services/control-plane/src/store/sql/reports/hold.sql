-- Holds the endpoints of the interfaces $2 that host $1 owns, so that none is published meanwhile, and
-- before them their VPCs, in the order that all keep: names that lead elsewhere are told to every host
-- that reaches the VPC.
WITH said AS (
    SELECT interface.endpoint_id, interface.vpc_id
      FROM network_interface AS interface
     WHERE interface.id = ANY ($2::text[]) AND interface.host_id = $1
), near AS (
    SELECT id
      FROM vpc
     WHERE id IN (SELECT vpc_id FROM said)
     ORDER BY id
       FOR SHARE
), ready AS (
    SELECT count(*) AS held
      FROM near
)
SELECT endpoint.id
  FROM vpc_endpoint AS endpoint
 WHERE endpoint.id IN (SELECT endpoint_id FROM said)
   AND (SELECT held FROM ready) >= 0
 ORDER BY endpoint.id
   FOR SHARE
