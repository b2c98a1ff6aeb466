INSERT INTO topic (id, owner_id, region, name, display_name, policy, signature_version,
                   delivery_policy, created_at, notice_topic_arn)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
    ON CONFLICT (owner_id, region, name) DO NOTHING
