INSERT INTO subscription (id, topic_id, owner_id, principal, protocol, endpoint, target, state, raw,
                          delivery_policy, token_sha256, token_expires_at, created_at, filter_policy,
                          filter_scope, filter_sha256, redrive_policy, ordered, digest_seconds,
                          webhook_secret)
VALUES ($1, $2, $3, $4, $5, $6, $7, 'pending', $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18,
        $19)
