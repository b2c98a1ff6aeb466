INSERT INTO policy_change (topic_arn, created_at) VALUES ($1, $2)
