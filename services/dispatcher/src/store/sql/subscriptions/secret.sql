SELECT webhook_secret, webhook_secret_previous_until
  FROM subscription
 WHERE id = $1
