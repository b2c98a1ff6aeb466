-- Topics whose policies changed, each once, with the last change that is known here.
SELECT topic_arn, max(id) AS last_id
  FROM policy_change
 GROUP BY topic_arn
 ORDER BY min(id)
 LIMIT $1
