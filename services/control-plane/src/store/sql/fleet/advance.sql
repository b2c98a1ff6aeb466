-- One generation further for each host ($1) that an object changed for, with what changed: kinds ($2),
-- objects ($3), VPCs ($4), and the trace context of the request ($5).
WITH touched AS (
    SELECT DISTINCT host_id, kind, object_id, vpc_id
      FROM unnest($1::text[], $2::text[], $3::text[], $4::text[])
           AS given (host_id, kind, object_id, vpc_id)
), locked AS (
    SELECT id
      FROM host
     WHERE id IN (SELECT host_id FROM touched)
     ORDER BY id
       -- Not FOR UPDATE: whoever put an interface on the host holds it by its foreign key already,
       -- and two of those would wait for each other.
       FOR NO KEY UPDATE
), advanced AS (
    UPDATE host
       SET desired_generation = desired_generation + 1
      FROM locked
     WHERE host.id = locked.id
    RETURNING host.id, host.desired_generation
), noted AS (
    INSERT INTO host_change (host_id, generation, kind, object_id, vpc_id, trace_context)
    SELECT touched.host_id, advanced.desired_generation, touched.kind, touched.object_id,
           touched.vpc_id, $5
      FROM touched
      JOIN advanced ON advanced.id = touched.host_id
), stamped AS (
    UPDATE network_interface AS interface
       SET change_generation = advanced.desired_generation
      FROM touched
      JOIN advanced ON advanced.id = touched.host_id
     WHERE touched.kind = 'interface'
       AND interface.id = touched.object_id
       AND interface.host_id = touched.host_id
)
SELECT id
  FROM advanced
