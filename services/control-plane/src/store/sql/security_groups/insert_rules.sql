-- Rules ($2 ids, $3 protocols, $4 first and $5 last ports, $6 sources, $7 descriptions) for group $1;
-- no row where there would be more than $8. The group is locked.
INSERT INTO security_group_rule (id, group_id, protocol, from_port, to_port, source, description)
SELECT added.id, $1, added.protocol, added.from_port, added.to_port, added.source::cidr,
       added.description
  FROM unnest($2::text[], $3::text[], $4::int[], $5::int[], $6::text[], $7::text[])
       AS added (id, protocol, from_port, to_port, source, description)
 WHERE (SELECT count(*) FROM security_group_rule WHERE group_id = $1) + cardinality($2::text[]) <= $8
