UPDATE topic
   SET display_name = $2, policy = $3, signature_version = $4, delivery_policy = $5
 WHERE id = $1
