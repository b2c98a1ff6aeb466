-- Changes of one topic are in order, since its row is held while it changes: what was made meanwhile has
-- a higher id and is reported by itself.
DELETE FROM policy_change WHERE topic_arn = $1 AND id <= $2
