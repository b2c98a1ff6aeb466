-- Tokens of before $1, at most $2: the places of the rows, since their keys would be looked for again.
DELETE FROM client_token
 WHERE ctid = ANY (ARRAY(
           SELECT ctid
             FROM client_token
            WHERE created_at <= $1
            ORDER BY created_at
            LIMIT $2
              FOR UPDATE SKIP LOCKED))
