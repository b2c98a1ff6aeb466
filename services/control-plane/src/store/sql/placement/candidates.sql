-- Hosts that reach both VPCs ($1, $2) and were heard of in the last $3 seconds, with how many
-- interfaces each owns: not counted where there is no choice, and not beyond ten thousand, since a
-- creation waits for the count.
WITH near_and_far AS (
    SELECT host.id, host.zone_id
      FROM host
      JOIN host_attachment AS near ON near.host_id = host.id AND near.vpc_id = $1
      JOIN host_attachment AS far ON far.host_id = host.id AND far.vpc_id = $2
     WHERE host.last_seen_at > now() - make_interval(secs => $3)
)
SELECT id, zone_id,
       CASE WHEN (SELECT count(*) FROM near_and_far) > 1
            THEN (SELECT count(*)
                    FROM (SELECT
                            FROM network_interface
                           WHERE host_id = near_and_far.id
                           LIMIT 10000) AS held)
            ELSE 0
       END
  FROM near_and_far
 ORDER BY id
