SELECT topic.id AS topic_id,
       count(*) FILTER (WHERE subscription.state = 'confirmed') AS confirmed,
       count(*) FILTER (WHERE subscription.state = 'pending') AS pending,
       count(*) FILTER (WHERE subscription.state = 'ended') AS ended
  FROM topic
  LEFT JOIN subscription ON subscription.topic_id = topic.id
 WHERE topic.id = ANY ($1)
 GROUP BY topic.id
