-- Takes the oldest messages ($2 at most) that were collected for a subscription. The longest texts of a
-- digest are cut where it is composed, so that no more than a text's worth of each is read here.
WITH oldest AS (
    SELECT id
      FROM digest_item
     WHERE subscription_id = $1
     ORDER BY published_at, id
     LIMIT $2
), taken AS (
    DELETE FROM digest_item
     WHERE id IN (SELECT oldest.id FROM oldest)
    RETURNING id, message_id, subject, body, published_at
)
SELECT message_id, subject, left(body, $3) AS body, length(body) > $3 AS cut, published_at
  FROM taken
 ORDER BY published_at, id
