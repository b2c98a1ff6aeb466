-- Takes the lease $1 for $2 for $3 seconds, if nobody else holds it. A new holder gets a new token, as
-- does one whose own lease had run out: somebody else may have held it meanwhile.
INSERT INTO lease (name, holder, token, expires_at)
VALUES ($1, $2, 1, now() + make_interval(secs => $3))
ON CONFLICT (name) DO UPDATE
   SET holder = EXCLUDED.holder,
       token = CASE WHEN lease.holder = EXCLUDED.holder AND lease.expires_at > now()
                    THEN lease.token
                    ELSE lease.token + 1
               END,
       expires_at = EXCLUDED.expires_at
 WHERE lease.holder = EXCLUDED.holder OR lease.expires_at <= now()
RETURNING token
