SELECT (SELECT count(*)
          FROM subscription
         WHERE topic_id = $1 AND filter_sha256 IS NOT NULL AND state <> 'ended') AS of_topic,
       (SELECT count(*)
          FROM subscription
         WHERE owner_id = $2 AND filter_sha256 IS NOT NULL AND state <> 'ended') AS of_account
