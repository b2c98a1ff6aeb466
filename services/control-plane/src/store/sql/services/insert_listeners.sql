-- A service's ($1) listeners ($2), and targets: listeners ($3), addresses ($4), ports ($5), zones ($6).
WITH listening AS (
    INSERT INTO service_listener (service_id, port)
    SELECT $1, unnest($2::integer[])
)
INSERT INTO service_target (service_id, listener_port, address, port, zone_id)
SELECT $1, listener_port, address, port, zone_id
  FROM unnest($3::integer[], $4::inet[], $5::integer[], $6::text[])
       AS given (listener_port, address, port, zone_id)
