-- The interfaces that carry a group and have a host that filters for them.
SELECT interface.id
  FROM vpc_endpoint_group AS member
  JOIN network_interface AS interface ON interface.endpoint_id = member.endpoint_id
 WHERE member.group_id = $1 AND interface.host_id IS NOT NULL AND interface.removed_at IS NULL
 ORDER BY interface.id
