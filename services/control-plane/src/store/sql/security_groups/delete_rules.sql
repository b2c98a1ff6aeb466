DELETE FROM security_group_rule
 WHERE group_id = $1 AND id = ANY ($2::text[])
RETURNING id
