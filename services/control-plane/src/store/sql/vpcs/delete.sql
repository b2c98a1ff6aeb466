-- A VPC that nothing is left in, with its default group, and with the endpoints and services that are
-- gone and only still shown.
WITH service AS (
    SELECT id FROM endpoint_service WHERE vpc_id = $1 AND deleted_at IS NOT NULL
), endpoint AS (
    SELECT id
      FROM vpc_endpoint
     WHERE deleted_at IS NOT NULL
       AND (vpc_id = $1 OR service_id IN (SELECT id FROM service))
), notifications AS (
    DELETE FROM connection_notification
     WHERE endpoint_id IN (SELECT id FROM endpoint) OR service_id IN (SELECT id FROM service)
), endpoints AS (
    DELETE FROM vpc_endpoint WHERE id IN (SELECT id FROM endpoint)
), services AS (
    DELETE FROM endpoint_service WHERE id IN (SELECT id FROM service)
), groups AS (
    DELETE FROM security_group WHERE vpc_id = $1
)
DELETE FROM vpc
 WHERE id = $1
