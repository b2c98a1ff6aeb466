-- Interfaces of an endpoint ($1) of an account ($2) in a VPC ($3) at $4: ids ($6), subnets ($7),
-- zones ($8), first and last usable addresses ($9, $10), hosts ($11). Addresses released since $5
-- rest. As in endpoints/insert.
WITH placed AS MATERIALIZED (
    SELECT place, id, subnet_id, zone_id, host_id,
           next_address($3, subnet_id, first, last, $5) AS address
      FROM unnest($6::text[], $7::text[], $8::text[], $9::inet[], $10::inet[], $11::text[])
           WITH ORDINALITY
           AS given (id, subnet_id, zone_id, first, last, host_id, place)
), bound AS (
    INSERT INTO network_interface (id, endpoint_id, owner_id, vpc_id, subnet_id, zone_id, address,
                                   host_id, epoch, created_at)
    SELECT id, $1, $2, $3, subnet_id, zone_id, address, host_id, (host_id IS NOT NULL)::int, $4
      FROM placed
     WHERE address IS NOT NULL
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
     WHERE vpc_id = $3 AND address = ANY (ARRAY(SELECT address FROM placed))
)
SELECT place, address
  FROM placed
 ORDER BY place
