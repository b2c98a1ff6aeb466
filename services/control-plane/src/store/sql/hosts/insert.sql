INSERT INTO host (id, name, zone_id)
VALUES ($1, $2, $3)
RETURNING id, name, zone_id, connected, last_seen_at, desired_generation, applied_generation,
          agent_version, created_at
