DELETE FROM redrive WHERE id = ANY ($1)
