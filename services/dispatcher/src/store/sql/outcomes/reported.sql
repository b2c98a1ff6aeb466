UPDATE outcome SET reported_at = $2 WHERE id = $1
