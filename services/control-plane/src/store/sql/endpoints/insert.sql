-- An endpoint ($1 to $10) at $11 with all that comes with it, in one statement, so that what others
-- wait for is held for one round trip and the commit: its groups ($13); its interfaces: ids ($14),
-- subnets ($15), zones ($16), first and last usable addresses ($17, $18), hosts ($19); its events: ids
-- ($20), sequences ($21), kinds ($22), bodies ($23); and a generation of each host that reaches the VPC
-- ($24), which hears of the names, and of the interfaces that it owns. $25 is the trace of all.
-- Addresses released since $12 rest. A subnet of its own for each interface, so that none can take
-- the other's address; that no other endpoint takes it meanwhile is seen to by the VPC's lock and,
-- without fail, by a constraint.
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
), told AS (
    INSERT INTO outbox (id, endpoint_id, sequence, kind, body, trace_context)
    SELECT id, $1, sequence, kind, body, $25
      FROM unnest($20::uuid[], $21::bigint[], $22::text[], $23::jsonb[])
           AS event (id, sequence, kind, body)
), placed AS MATERIALIZED (
    SELECT place, id, subnet_id, zone_id, host_id,
           next_address($4, subnet_id, first, last, $12) AS address
      FROM unnest($14::text[], $15::text[], $16::text[], $17::inet[], $18::inet[], $19::text[])
           WITH ORDINALITY
           AS given (id, subnet_id, zone_id, first, last, host_id, place)
), taken AS (
    -- Whatever lies before the cursor has an interface or was released.
    INSERT INTO subnet_cursor (subnet_id, next)
    SELECT subnet_id, address + 1
      FROM placed
     WHERE address IS NOT NULL
        ON CONFLICT (subnet_id) DO UPDATE
       SET next = excluded.next
     WHERE subnet_cursor.next < excluded.next
), held_again AS (
    DELETE FROM released_address
     WHERE vpc_id = $4 AND address = ANY (ARRAY(SELECT address FROM placed))
), kept AS (
    -- Before the hosts, in the order that all keep: foreign keys would take them at the very end.
    SELECT id
      FROM security_group
     WHERE id = ANY ($13::text[])
     ORDER BY id
       FOR KEY SHARE
), locked AS (
    SELECT id
      FROM host
     WHERE id = ANY ($24::text[])
       AND (SELECT count(*) FROM kept) >= 0
     ORDER BY id
       -- As in fleet/advance.
       FOR NO KEY UPDATE
), advanced AS (
    UPDATE host
       SET desired_generation = desired_generation + 1
      FROM locked
     WHERE host.id = locked.id
    RETURNING host.id, host.desired_generation
), bound AS (
    INSERT INTO network_interface (id, endpoint_id, owner_id, vpc_id, subnet_id, zone_id, address,
                                   host_id, epoch, change_generation, created_at)
    SELECT placed.id, $1, $3, $4, placed.subnet_id, placed.zone_id, placed.address, placed.host_id,
           (placed.host_id IS NOT NULL)::int, COALESCE(advanced.desired_generation, 0), $11
      FROM placed
      LEFT JOIN advanced ON advanced.id = placed.host_id
     WHERE placed.address IS NOT NULL
), changed AS (
    INSERT INTO host_change (host_id, generation, kind, object_id, vpc_id, trace_context)
    SELECT id, desired_generation, 'names', $1, $4, $25
      FROM advanced
    UNION ALL
    SELECT advanced.id, advanced.desired_generation, 'interface', placed.id, '', $25
      FROM placed
      JOIN advanced ON advanced.id = placed.host_id
)
SELECT place, address
  FROM placed
 ORDER BY place
