DELETE FROM client_token
 WHERE (account_id, action, token) IN (
           SELECT account_id, action, token
             FROM client_token
            WHERE created_at <= $1
            ORDER BY created_at
            LIMIT $2
              FOR UPDATE SKIP LOCKED)
