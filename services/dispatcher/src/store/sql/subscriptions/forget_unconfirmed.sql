DELETE FROM subscription WHERE state = 'pending' AND created_at < $1
