INSERT INTO inbox (event_id, received_at)
SELECT event_id, $2 FROM unnest($1::uuid[]) AS event_id
    ON CONFLICT (event_id) DO NOTHING
RETURNING event_id
