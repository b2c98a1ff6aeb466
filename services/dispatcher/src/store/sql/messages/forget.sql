-- A message goes when nothing of it is on its way any more; its deliveries and attempts go with it.
DELETE FROM message
 WHERE id IN (SELECT message.id
                FROM message
               WHERE message.published_at < $1
                 AND NOT EXISTS (SELECT 1
                                   FROM delivery
                                  WHERE delivery.message_id = message.id
                                    AND delivery.state = 'pending')
               LIMIT $2)
