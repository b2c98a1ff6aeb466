SELECT count(*) FROM topic WHERE owner_id = $1 AND region = $2
