UPDATE subscription
   SET raw = $2, delivery_policy = $3, filter_policy = $4, filter_scope = $5, filter_sha256 = $6,
       redrive_policy = $7, ordered = $8, digest_seconds = $9
 WHERE id = $1
