-- Endpoints deleted before $1, at most $2.
DELETE FROM vpc_endpoint
 WHERE id IN (
           SELECT id
             FROM vpc_endpoint
            WHERE state = 'deleted' AND state_changed_at <= $1
            ORDER BY state_changed_at
            LIMIT $2
              FOR UPDATE SKIP LOCKED)
