-- A new stream of host $1, whose agent has version $2 and holds generation $3. An agent ahead of us
-- holds the state of a database that was since restored: the generations go on from its.
UPDATE host
   SET session = session + 1,
       connected = true,
       last_seen_at = now(),
       agent_version = $2,
       desired_generation = CASE WHEN $3 > desired_generation THEN $3 + 1
                                 ELSE desired_generation
                            END
 WHERE id = $1
RETURNING session
