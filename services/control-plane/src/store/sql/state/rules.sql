-- What these groups ($1) let in by prefix. Rules that refer to a group let its members in: there are
-- no interfaces but those of endpoints, which open no connections, so no prefix comes of them.
SELECT group_id, source::text, protocol, from_port, to_port
  FROM security_group_rule
 WHERE group_id = ANY ($1::text[]) AND source IS NOT NULL
