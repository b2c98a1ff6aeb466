-- Holds endpoints that are in a state ($1) since before $2, at most $3, and that nobody else holds.
SELECT endpoint.id, endpoint.owner_id, endpoint.vpc_id, endpoint.service_id,
       service.name AS service_name, service.owner_id AS service_owner_id,
       service.acceptance_required, endpoint.state, endpoint.private_dns_name, endpoint.published,
       endpoint.failure_reason, endpoint.revision, endpoint.event_sequence,
       endpoint.state_changed_at
  FROM vpc_endpoint AS endpoint
  JOIN endpoint_service AS service ON service.id = endpoint.service_id
 WHERE endpoint.state = $1
   AND endpoint.state IN ('pendingAcceptance', 'pending', 'partial', 'deleting', 'deleted')
   AND endpoint.state_changed_at <= $2
 ORDER BY endpoint.state_changed_at, endpoint.id
 LIMIT $3
   FOR UPDATE OF endpoint SKIP LOCKED
