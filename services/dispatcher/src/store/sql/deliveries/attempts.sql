SELECT number, started_at, duration_ms, status, error, address
  FROM attempt
 WHERE delivery_id = $1
 ORDER BY number
