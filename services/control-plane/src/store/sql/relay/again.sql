-- Events published in the last $1 seconds are published again.
UPDATE outbox
   SET published_at = NULL
 WHERE published_at > now() - make_interval(secs => $1)
