-- What became of an event ($2) for a notification ($1): allowed or not ($3), why not ($4); disabled
-- by the $5th denial in a row.
UPDATE connection_notification
   SET last_event_id = $2,
       denials = CASE WHEN $3 THEN 0 ELSE denials + 1 END,
       state = CASE WHEN NOT $3 AND denials + 1 >= $5 THEN 'Disabled' ELSE state END,
       disabled_reason = CASE WHEN NOT $3 AND denials + 1 >= $5 AND state = 'Enabled'
                              THEN $4 ELSE disabled_reason END
 WHERE id = $1 AND last_event_id <> $2
RETURNING NOT $3 AND denials = $5
