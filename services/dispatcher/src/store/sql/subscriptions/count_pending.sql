SELECT count(*) FROM subscription WHERE topic_id = $1 AND state = 'pending'
