SELECT id, name, zone_id, connected, last_seen_at, desired_generation, applied_generation,
       agent_version, created_at
  FROM host
 WHERE id = $1
