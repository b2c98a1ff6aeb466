-- The secret that was the previous one until now stops signing.
UPDATE subscription
   SET webhook_secret_previous = CASE WHEN $3::timestamptz IS NULL THEN NULL ELSE webhook_secret END,
       webhook_secret_previous_until = CASE WHEN webhook_secret IS NULL THEN NULL ELSE $3 END,
       webhook_secret = $2
 WHERE id = $1
