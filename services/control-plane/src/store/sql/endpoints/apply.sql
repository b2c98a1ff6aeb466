-- Moves endpoints ($1) from states ($2) to states ($3), with what they publish ($4) and why they are
-- there ($5), if the table lets the event leave the state ($6). $7 is 1 when the world hears of it.
-- The history has who did it ($8, $9) and when ($10). A request that waits is not younger for having
-- been modified.
WITH given AS (
    SELECT id, from_state, to_state, published, reason
      FROM unnest($1::text[], $2::text[], $3::text[], $4::boolean[], $5::text[])
           AS given (id, from_state, to_state, published, reason)
), moved AS (
    UPDATE vpc_endpoint AS endpoint
       SET state = given.to_state,
           published = given.published,
           failure_reason = given.reason,
           revision = endpoint.revision + 1,
           event_sequence = endpoint.event_sequence + $7,
           state_changed_at = CASE WHEN given.to_state = 'pendingAcceptance'
                                   THEN endpoint.state_changed_at ELSE $10 END,
           deleted_at = CASE WHEN given.to_state = 'deleted' THEN $10 END
      FROM given
     WHERE endpoint.id = given.id
       AND endpoint.state = given.from_state
       AND endpoint.state = ANY ($6::text[])
    RETURNING endpoint.id, endpoint.revision, endpoint.event_sequence
), noted AS (
    INSERT INTO endpoint_history (endpoint_id, revision, from_state, to_state, actor_side,
                                  actor_account, reason, at)
    SELECT moved.id, moved.revision, given.from_state, given.to_state, $8, $9, given.reason, $10
      FROM moved
      JOIN given ON given.id = moved.id
)
SELECT id, revision, event_sequence
  FROM moved
