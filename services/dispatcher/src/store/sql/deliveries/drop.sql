-- What is being tried just now ends here too: the claim goes, so that its result is not taken.
UPDATE delivery
   SET state = 'dropped', ended_at = $2, token = NULL, claim = NULL
 WHERE subscription_id = $1 AND state = 'pending'
