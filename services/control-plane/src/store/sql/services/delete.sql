WITH forbidden AS (
    DELETE FROM service_permission WHERE service_id = ANY ($1::text[])
), silenced AS (
    DELETE FROM connection_notification WHERE service_id = ANY ($1::text[])
)
UPDATE endpoint_service
   SET state = 'Deleted', deleted_at = $2
 WHERE id = ANY ($1::text[])
