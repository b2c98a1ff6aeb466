-- What lists, creations and watches are asked for, found by an index whatever the filter is.

-- A page of an account's endpoints in a state, of a VPC's, and of a service's in a state.
CREATE INDEX vpc_endpoint_owner_state ON vpc_endpoint (owner_id, state, id);
CREATE INDEX vpc_endpoint_of_vpc ON vpc_endpoint (vpc_id, id);
CREATE INDEX vpc_endpoint_service_state ON vpc_endpoint (service_id, state, id);
CREATE INDEX network_interface_of_vpc ON network_interface (vpc_id, id);
-- An endpoint's interfaces with those that are to go, which the index on zones leaves out.
CREATE INDEX network_interface_endpoint ON network_interface (endpoint_id);
-- What hosts are to let go of, and what they have let go of.
CREATE INDEX network_interface_going ON network_interface (host_id, endpoint_id)
 WHERE removed_at IS NOT NULL;

-- Where the search for a free address of a subnet begins. Each usable address before `next` has an
-- interface or a row of `released_address`; after it, any may be free.
CREATE TABLE subnet_cursor (
    subnet_id text PRIMARY KEY REFERENCES subnet ON DELETE CASCADE,
    next      inet NOT NULL
) WITH (fillfactor = 50);

-- The lowest address of a subnet, given by its first and last usable address, that no interface of
-- the VPC has and that was not released since `rested` (spec 4.1). It is a released one, or the
-- first free one at or after the cursor: neither search reads what is taken before the cursor.
--
-- Should both find nothing, every address is looked at: a program of an earlier version forgets
-- released addresses, which the cursor relies on.
CREATE FUNCTION next_address(of_vpc text, of_subnet text, first inet, last inet, rested timestamptz)
RETURNS inet LANGUAGE plpgsql STABLE AS $$
DECLARE
    again inet;
    fresh inet;
BEGIN
    SELECT released.address INTO again
      FROM released_address AS released
     WHERE released.vpc_id = of_vpc AND released.address BETWEEN first AND last
       AND released.released_at <= rested
       AND NOT EXISTS (SELECT
                         FROM network_interface AS holder
                        WHERE holder.vpc_id = of_vpc AND holder.address = released.address)
     ORDER BY released.address
     LIMIT 1;
    SELECT GREATEST(first, subnet_cursor.next) INTO fresh
      FROM subnet_cursor
     WHERE subnet_id = of_subnet;
    fresh := COALESCE(fresh, first);
    WHILE fresh <= last
          AND (EXISTS (SELECT
                         FROM network_interface AS holder
                        WHERE holder.vpc_id = of_vpc AND holder.address = fresh)
               OR EXISTS (SELECT
                            FROM released_address AS released
                           WHERE released.vpc_id = of_vpc AND released.address = fresh
                             AND released.released_at > rested))
    LOOP
        fresh := fresh + 1;
    END LOOP;
    IF again IS NOT NULL AND (again < fresh OR fresh > last) THEN
        RETURN again;
    ELSIF fresh <= last THEN
        RETURN fresh;
    END IF;
    RETURN free_address(of_vpc, first, last, rested);
END
$$;
