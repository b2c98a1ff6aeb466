-- Hosts that reach both VPCs ($1, $2) and were heard of in the last $3 seconds, with how many
-- interfaces each owns.
SELECT host.id, host.zone_id,
       (SELECT count(*) FROM network_interface AS held WHERE held.host_id = host.id)
  FROM host
  JOIN host_attachment AS near ON near.host_id = host.id AND near.vpc_id = $1
  JOIN host_attachment AS far ON far.host_id = host.id AND far.vpc_id = $2
 WHERE host.last_seen_at > now() - make_interval(secs => $3)
 ORDER BY host.id
