-- What was written for a subscription while that went: the trigger did not see it. Such a delivery can be
-- claimed, but leads nowhere.
UPDATE delivery
   SET state = 'dropped', ended_at = $1, token = NULL, claim = NULL
 WHERE state = 'pending' AND claim IS NOT NULL
   AND NOT EXISTS (SELECT 1 FROM subscription WHERE subscription.id = delivery.subscription_id)
