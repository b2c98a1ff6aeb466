-- The streak begins anew: one more failure must not disable it at once.
UPDATE subscription
   SET disabled_at = NULL, disabled_reason = NULL, disabled_noticed_at = NULL, failure_streak = 0,
       failing_since = NULL
 WHERE id = $1
