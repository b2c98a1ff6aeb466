DELETE FROM endpoint_service
 WHERE id IN (
           SELECT service.id
             FROM endpoint_service AS service
            WHERE service.state = 'Deleted'
              AND NOT EXISTS (SELECT
                                FROM vpc_endpoint AS endpoint
                               WHERE endpoint.service_id = service.id)
            LIMIT $1
              FOR UPDATE SKIP LOCKED)
