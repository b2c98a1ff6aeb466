INSERT INTO service_permission (service_id, id, principal)
SELECT $1, id, principal
  FROM unnest($2::text[], $3::text[]) AS given (id, principal)
    ON CONFLICT ON CONSTRAINT service_permission_once DO NOTHING
RETURNING id, principal
