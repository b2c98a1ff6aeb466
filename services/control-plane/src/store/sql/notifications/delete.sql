DELETE FROM connection_notification
 WHERE owner_id = $1 AND id = ANY ($2::text[])
RETURNING id
