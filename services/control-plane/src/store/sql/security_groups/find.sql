SELECT security_group.id, security_group.vpc_id, security_group.owner_id, security_group.name,
       security_group.description, security_group.created_at,
       coalesce((SELECT jsonb_agg(jsonb_build_object(
                            'id', rule.id, 'protocol', rule.protocol, 'from_port', rule.from_port,
                            'to_port', rule.to_port, 'source', rule.source,
                            'referenced_group_id', rule.referenced_group_id,
                            'description', rule.description)
                        ORDER BY rule.id)
                   FROM security_group_rule AS rule
                  WHERE rule.group_id = security_group.id), '[]') AS rules
  FROM security_group
 WHERE security_group.owner_id = $1 AND security_group.id = $2
