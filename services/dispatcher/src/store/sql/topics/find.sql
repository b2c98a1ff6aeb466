SELECT id, owner_id, region, name, display_name, policy, signature_version, delivery_policy,
       created_at, notice_topic_arn
  FROM topic
 WHERE owner_id = $1 AND region = $2 AND name = $3
