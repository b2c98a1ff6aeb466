SELECT min(created_at) FROM delivery WHERE state = 'pending'
