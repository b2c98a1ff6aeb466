DELETE FROM topic WHERE owner_id = $1 AND region = $2 AND name = $3
