-- Marks interfaces ($2) of endpoints ($1) as ones that are to go since $3. All the interfaces of the
-- endpoints are held first, in the order that all keep: the others are told something after this.
WITH held AS (
    SELECT id
      FROM network_interface
     WHERE endpoint_id = ANY ($1::text[])
     ORDER BY id
       FOR NO KEY UPDATE
)
UPDATE network_interface AS interface
   SET removed_at = $3
  FROM held
 WHERE interface.id = held.id
   AND interface.id = ANY ($2::text[])
   AND interface.removed_at IS NULL
