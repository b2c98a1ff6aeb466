-- The services that an account ($1) may ask for as one of the principals ($2), by name: those of the
-- names ($3) if there are any, after $4, at most $5. Zones go by the account's names.
SELECT service.id, service.name, service.owner_id, service.acceptance_required,
       service.private_dns_name,
       ARRAY(SELECT zone.zone_id
               FROM service_zone AS offered
               JOIN account_zone AS zone
                 ON zone.account_id = $1 AND zone.zone_id = offered.zone_id
              WHERE offered.service_id = service.id
              ORDER BY zone.zone_name) AS zone_ids,
       ARRAY(SELECT zone.zone_name
               FROM service_zone AS offered
               JOIN account_zone AS zone
                 ON zone.account_id = $1 AND zone.zone_id = offered.zone_id
              WHERE offered.service_id = service.id
              ORDER BY zone.zone_name) AS zone_names,
       ARRAY(SELECT port
               FROM service_listener
              WHERE service_id = service.id
              ORDER BY port) AS ports
  FROM endpoint_service AS service
 WHERE service.state = 'Available'
   AND (cardinality($3::text[]) = 0 OR service.name = ANY ($3::text[]))
   AND (service.owner_id = $1
        OR service.id IN (SELECT service_id
                            FROM service_permission
                           WHERE principal = ANY ($2::text[])))
   AND service.name > COALESCE($4, '')
 ORDER BY service.name
 LIMIT $5
