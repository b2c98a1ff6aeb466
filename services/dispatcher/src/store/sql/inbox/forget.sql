DELETE FROM inbox WHERE received_at < $1
