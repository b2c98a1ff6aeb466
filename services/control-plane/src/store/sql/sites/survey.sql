-- What an account ($1) finds for an endpoint in a VPC ($2) to a service ($3): as one of the
-- principals ($4), for an endpoint that is there already ($5, or NULL), in subnets ($6), with
-- groups ($7, or the default one). Addresses released since $8 rest. Always one row.
SELECT vpc.enable_dns_support, vpc.enable_dns_hostnames,
       (SELECT count(*)
          FROM vpc_endpoint AS other
         WHERE other.vpc_id = vpc.id AND other.deleted_at IS NULL) AS endpoints,
       service.id AS service_id, service.name AS service_name,
       service.owner_id AS service_owner_id, service.vpc_id AS service_vpc_id,
       service.acceptance_required, service.private_dns_name,
       ARRAY(SELECT zone_id FROM service_zone WHERE service_id = service.id) AS zones,
       COALESCE((SELECT jsonb_agg(jsonb_build_object(
                            'id', subnet.id,
                            'vpc', subnet.vpc_id,
                            'cidr', text(subnet.cidr),
                            'zone', subnet.zone_id,
                            'zone_name', zone.zone_name,
                            'full', next_address(subnet.vpc_id, subnet.id,
                                                 host(network(subnet.cidr))::inet + 4,
                                                 host(broadcast(subnet.cidr))::inet - 1,
                                                 $8) IS NULL))
                   FROM subnet
                   JOIN account_zone AS zone
                     ON zone.account_id = subnet.owner_id AND zone.zone_id = subnet.zone_id
                  WHERE subnet.id = ANY ($6::text[]) AND subnet.owner_id = $1),
                '[]') AS subnets,
       ARRAY(SELECT id
               FROM security_group AS wanted
              WHERE wanted.vpc_id = vpc.id
                AND CASE WHEN cardinality($7::text[]) = 0 THEN wanted.is_default
                         ELSE wanted.id = ANY ($7::text[]) END
              ORDER BY id) AS groups,
       ARRAY(SELECT host_id FROM host_attachment WHERE vpc_id = vpc.id ORDER BY host_id) AS hosts,
       (SELECT other.id
          FROM vpc_endpoint AS other
         WHERE other.vpc_id = vpc.id AND other.private_dns_name = service.private_dns_name
           AND other.private_dns_enabled AND other.deleted_at IS NULL
           AND other.id IS DISTINCT FROM $5) AS claimed_by,
       COALESCE((SELECT jsonb_agg(jsonb_build_object(
                            'id', about.id,
                            'owner', about.owner_id,
                            'service', about.service_id,
                            'endpoint', about.endpoint_id,
                            'topic_arn', about.topic_arn,
                            'events', about.events)
                        ORDER BY about.id)
                   FROM connection_notification AS about
                  WHERE about.service_id = service.id AND about.state = 'Enabled'
                    AND about.events && ARRAY['Connect', 'Accept']),
                '[]') AS notifications
  FROM (VALUES ($2::text, $3::text)) AS wanted (vpc_id, service_id)
  LEFT JOIN vpc ON vpc.id = wanted.vpc_id AND vpc.owner_id = $1
  LEFT JOIN endpoint_service AS service
    ON service.id = wanted.service_id AND service.state = 'Available'
   AND ($5::text IS NOT NULL
        OR service.owner_id = $1
        OR EXISTS (SELECT
                     FROM service_permission AS allowed
                    WHERE allowed.service_id = service.id AND allowed.principal = ANY ($4::text[])))
