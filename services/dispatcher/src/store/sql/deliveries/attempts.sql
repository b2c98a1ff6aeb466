SELECT number, started_at, duration_ms, status, error, address, request_bytes, response_bytes, response
  FROM attempt
 WHERE delivery_id = $1 AND created_at = $2
 ORDER BY number
