UPDATE subscription SET disabled_noticed_at = $2 WHERE id = ANY ($1)
