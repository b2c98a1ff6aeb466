-- Events: ids ($1), endpoints ($2), sequences ($3), kinds ($4), bodies ($5); all of one trace ($6).
INSERT INTO outbox (id, endpoint_id, sequence, kind, body, trace_context)
SELECT id, endpoint_id, sequence, kind, body, $6
  FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::text[], $5::jsonb[])
       AS given (id, endpoint_id, sequence, kind, body)
