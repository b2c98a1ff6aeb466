-- An endpoint ($1 to $10) at $11, its groups ($13), and its interfaces: ids ($14), subnets ($15),
-- zones ($16), first and last usable addresses ($17, $18), hosts ($19). Addresses released since $12
-- rest. A subnet of its own for each interface, so that none can take the other's address; that no
-- other endpoint takes it meanwhile is seen to by the VPC's lock and, without fail, by a constraint.
WITH made AS (
    INSERT INTO vpc_endpoint (id, connection_id, owner_id, vpc_id, service_id, state, label,
                              private_dns_enabled, private_dns_name, failure_reason,
                              event_sequence, state_changed_at, created_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8::text IS NOT NULL, $8, $9, $10, $11, $11)
), carried AS (
    INSERT INTO vpc_endpoint_group (endpoint_id, group_id)
    SELECT $1, unnest($13::text[])
), noted AS (
    INSERT INTO endpoint_history (endpoint_id, revision, to_state, actor_side, actor_account, at)
    VALUES ($1, 1, $6, 'consumer', $3, $11)
), placed AS MATERIALIZED (
    SELECT place, id, subnet_id, zone_id, host_id,
           free_address($4, first, last, $12) AS address
      FROM unnest($14::text[], $15::text[], $16::text[], $17::inet[], $18::inet[], $19::text[])
           WITH ORDINALITY
           AS given (id, subnet_id, zone_id, first, last, host_id, place)
), bound AS (
    INSERT INTO network_interface (id, endpoint_id, owner_id, vpc_id, subnet_id, zone_id, address,
                                   host_id, epoch, created_at)
    SELECT id, $1, $3, $4, subnet_id, zone_id, address, host_id, (host_id IS NOT NULL)::int, $11
      FROM placed
     WHERE address IS NOT NULL
)
SELECT place, address
  FROM placed
 ORDER BY place
