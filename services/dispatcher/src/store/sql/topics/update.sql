UPDATE topic
   SET display_name = $2, policy = $3, signature_version = $4, delivery_policy = $5,
       notice_topic_arn = $6
 WHERE id = $1
