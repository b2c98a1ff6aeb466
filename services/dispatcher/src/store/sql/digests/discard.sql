DELETE FROM digest_item WHERE subscription_id = $1
