INSERT INTO subscription (id, topic_id, owner_id, principal, protocol, endpoint, target, state, raw,
                          delivery_policy, token_sha256, token_expires_at, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, 'pending', $8, $9, $10, $11, $12)
