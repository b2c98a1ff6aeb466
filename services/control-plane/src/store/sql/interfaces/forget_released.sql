DELETE FROM released_address
 WHERE (vpc_id, address) IN (
           SELECT vpc_id, address
             FROM released_address
            WHERE released_at <= $1
            LIMIT $2
              FOR UPDATE SKIP LOCKED)
