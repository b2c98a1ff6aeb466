-- Holds the VPCs of endpoints ($1), then the endpoints; of an account ($2) or a service ($3) if one
-- is given.
WITH near AS (
    SELECT id
      FROM vpc
     WHERE id IN (SELECT vpc_id
                    FROM vpc_endpoint
                   WHERE id = ANY ($1::text[])
                     AND ($2::text IS NULL OR owner_id = $2)
                     AND ($3::text IS NULL OR service_id = $3))
     ORDER BY id
       FOR SHARE
), ready AS (
    SELECT count(*) AS held
      FROM near
)
SELECT endpoint.id, endpoint.owner_id, endpoint.vpc_id, endpoint.service_id,
       service.name AS service_name, service.owner_id AS service_owner_id,
       service.acceptance_required, endpoint.state, endpoint.private_dns_name, endpoint.published,
       endpoint.failure_reason, endpoint.revision, endpoint.event_sequence,
       endpoint.state_changed_at
  FROM vpc_endpoint AS endpoint
  JOIN endpoint_service AS service ON service.id = endpoint.service_id
 WHERE endpoint.id = ANY ($1::text[])
   AND ($2::text IS NULL OR endpoint.owner_id = $2)
   AND ($3::text IS NULL OR endpoint.service_id = $3)
   AND (SELECT held FROM ready) >= 0
 ORDER BY endpoint.id
   FOR UPDATE OF endpoint
