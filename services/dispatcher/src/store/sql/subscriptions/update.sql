UPDATE subscription SET raw = $2, delivery_policy = $3 WHERE id = $1
