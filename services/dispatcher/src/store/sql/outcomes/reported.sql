UPDATE outcome SET reported_at = $2 WHERE id = ANY ($1)
