DELETE FROM outcome WHERE created_at < $1 AND reported_at IS NOT NULL
