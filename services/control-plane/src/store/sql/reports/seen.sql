-- Host $1 was heard of on the stream $2: nothing when that is not its newest any more.
UPDATE host
   SET last_seen_at = now(), connected = true
 WHERE id = $1 AND session = $2
