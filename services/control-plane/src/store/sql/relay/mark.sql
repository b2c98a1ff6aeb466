-- Events $1 are on the bus, says who holds the lease $2 as $3 with token $4. From anybody else it is
-- not taken: the events are published again, under the same ids.
UPDATE outbox
   SET published_at = now()
 WHERE id = ANY ($1)
   AND published_at IS NULL
   AND EXISTS (SELECT 1
                 FROM lease
                WHERE name = $2 AND holder = $3 AND token = $4)
