-- Its topic is the one that was asked, or this says nothing about it.
UPDATE connection_notification
   SET state = 'Enabled', disabled_reason = '', denials = 0
 WHERE id = $1 AND topic_arn = $2 AND state = 'Disabled'
