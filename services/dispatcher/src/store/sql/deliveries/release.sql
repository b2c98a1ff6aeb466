-- Gives back what was claimed and not tried to its end: it is due at once, for anybody.
UPDATE delivery
   SET claim = NULL, next_attempt_at = $2
 WHERE claim = ANY ($1) AND state = 'pending'
