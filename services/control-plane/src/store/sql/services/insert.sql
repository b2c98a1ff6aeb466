INSERT INTO endpoint_service (id, owner_id, vpc_id, name, acceptance_required, private_dns_name,
                              proxy_protocol_v2, idle_timeout_seconds, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
