//! A database with as much in it that plans matter.

/// Two thousand accounts, each with a VPC, a service and all that belongs to them, and six thousand
/// endpoints, of which half are one account's and lead to one service.
pub(super) const SEED: &str = r#"
INSERT INTO account (id, name)
SELECT lpad(i::text, 12, '0'), 'account' FROM generate_series(1, 2000) AS i;
INSERT INTO account_zone
SELECT id, 'us-east-1' || letter, 'use1-az' || place
  FROM account, unnest(ARRAY['a', 'b', 'c']) WITH ORDINALITY AS zone (letter, place);
INSERT INTO api_key (id, account_id, description, secret_sha256)
SELECT 'key-' || id, id, '', sha256(id::bytea) FROM account;
INSERT INTO vpc (id, owner_id, name, cidr)
SELECT 'vpc-' || lpad(i::text, 17, '0'), lpad(i::text, 12, '0'), '', '10.0.0.0/16'
  FROM generate_series(1, 2000) AS i;
INSERT INTO subnet (id, vpc_id, owner_id, cidr, zone_id)
SELECT 'subnet-' || right(id, 17), id, owner_id, '10.0.0.0/16', 'use1-az1' FROM vpc;
INSERT INTO security_group (id, vpc_id, owner_id, name, description, is_default)
SELECT 'sg-' || right(id, 17), id, owner_id, 'default', '', true FROM vpc;
INSERT INTO host (id, name, zone_id, last_seen_at)
SELECT 'host-' || lpad(i::text, 17, '0'), 'host ' || i, 'use1-az1', now()
  FROM generate_series(1, 100) AS i;
INSERT INTO host_attachment (id, host_id, vpc_id, cidr, kind, network_namespace)
SELECT 'att-' || i || '-' || j, 'host-' || lpad((1 + (i + j) % 100)::text, 17, '0'),
       'vpc-' || lpad(i::text, 17, '0'), '10.0.0.0/16', 'namespace', 'space'
  FROM generate_series(1, 2000) AS i, generate_series(0, 3) AS j;
INSERT INTO endpoint_service (id, owner_id, vpc_id, name, acceptance_required)
SELECT 'vpce-svc-' || right(id, 17), owner_id, id,
       'com.amazonaws.vpce.us-east-1.vpce-svc-' || right(id, 17), true
  FROM vpc;
INSERT INTO service_listener SELECT id, 80 FROM endpoint_service;
INSERT INTO service_target SELECT id, 80, '10.0.0.9', 8080, 'use1-az1' FROM endpoint_service;
INSERT INTO service_permission (id, service_id, principal)
SELECT 'perm-' || id, id, '*' FROM endpoint_service;
INSERT INTO vpc_endpoint (id, connection_id, owner_id, vpc_id, service_id, state, label)
SELECT 'vpce-' || lpad(i::text, 17, '0'), 'connection ' || i, lpad(owner::text, 12, '0'),
       'vpc-' || lpad(owner::text, 17, '0'), 'vpce-svc-' || lpad(owner::text, 17, '0'),
       CASE i % 100 WHEN 0 THEN 'pendingAcceptance' WHEN 1 THEN 'pending' ELSE 'available' END,
       'abcdefgh'
  FROM generate_series(1, 6000) AS i,
       LATERAL (SELECT CASE WHEN i % 2 = 0 THEN 1 ELSE 2 + i % 1999 END) AS of (owner);
INSERT INTO vpc_endpoint_group SELECT id, 'sg-' || right(vpc_id, 17) FROM vpc_endpoint;
INSERT INTO endpoint_history (endpoint_id, revision, to_state, actor_side)
SELECT id, 1, state, 'consumer' FROM vpc_endpoint;
INSERT INTO network_interface (id, endpoint_id, owner_id, vpc_id, subnet_id, zone_id, address,
                               host_id, epoch, change_generation, bound_generation, bound)
SELECT 'eni-' || right(id, 17), id, owner_id, vpc_id, 'subnet-' || right(vpc_id, 17), 'use1-az1',
       '10.0.0.4'::inet + (row_number() OVER (PARTITION BY vpc_id ORDER BY id) - 1),
       'host-' || lpad((1 + right(vpc_id, 17)::int % 100)::text, 17, '0'), 1, 1, 1,
       state = 'available'
  FROM vpc_endpoint;
INSERT INTO interface_usage (network_interface_id) SELECT id FROM network_interface;
INSERT INTO released_address (vpc_id, address) SELECT id, '10.0.200.1' FROM vpc;
INSERT INTO subnet_cursor
SELECT 'subnet-' || right(id, 17), '10.0.100.1' FROM vpc WHERE id > 'vpc-00000000000000001';
INSERT INTO outbox (id, endpoint_id, sequence, kind, body, published_at)
SELECT gen_random_uuid(), id, 1, 'Connect', '{}',
       CASE WHEN state = 'available' THEN now() END
  FROM vpc_endpoint;
INSERT INTO client_token (account_id, action, token, fingerprint, resource_id)
SELECT owner_id, 'CreateVpcEndpoint', id, '', id FROM vpc_endpoint;
INSERT INTO host_change (host_id, generation, kind, object_id)
SELECT host_id, row_number() OVER (PARTITION BY host_id), 'interface', id FROM network_interface;
ANALYZE;
"#;
