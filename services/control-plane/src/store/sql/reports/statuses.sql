-- What host $1 says of interfaces that it owns: ids ($2), epochs ($3), bound ($4), errors ($5), as of
-- generation $6. What it says under an older epoch is about an ownership that has ended.
-- Returns the endpoints for which that is news, and what hangs on it.
WITH said AS (
    SELECT DISTINCT ON (id) id, epoch, bound, error
      FROM unnest($2::text[], $3::bigint[], $4::boolean[], $5::text[])
           AS given (id, epoch, bound, error)
     ORDER BY id
), locked AS (
    SELECT interface.id, interface.bound AS was_bound
      FROM network_interface AS interface
      JOIN said ON said.id = interface.id
     WHERE interface.host_id = $1 AND interface.epoch = said.epoch
     ORDER BY interface.id
       FOR NO KEY UPDATE OF interface
), noted AS (
    UPDATE network_interface AS interface
       SET bound = said.bound,
           bind_error = said.error,
           bound_generation = CASE WHEN said.bound THEN GREATEST(interface.bound_generation, $6)
                                   ELSE interface.bound_generation
                              END
      FROM locked
      JOIN said ON said.id = locked.id
     WHERE interface.id = locked.id
       AND (interface.bound <> said.bound
            OR interface.bind_error <> said.error
            OR (said.bound AND interface.bound_generation < $6))
    RETURNING interface.endpoint_id, interface.bound <> locked.was_bound AS flipped
)
SELECT endpoint.id, endpoint.vpc_id,
       endpoint.published AND bool_or(noted.flipped),
       endpoint.state IN ('pending', 'partial', 'deleting')
  FROM noted
  JOIN vpc_endpoint AS endpoint ON endpoint.id = noted.endpoint_id
 GROUP BY endpoint.id
