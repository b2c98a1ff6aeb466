-- Hosts not heard of for $1 seconds that have not let go of an interface that is to go.
SELECT DISTINCT interface.host_id
  FROM network_interface AS interface
  JOIN host ON host.id = interface.host_id
 WHERE interface.removed_at IS NOT NULL
   AND interface.host_id IS NOT NULL
   AND (host.last_seen_at IS NULL OR host.last_seen_at <= now() - make_interval(secs => $1))
