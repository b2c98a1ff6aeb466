SELECT max(seq) FROM attempt WHERE topic_id = $1
