-- The tables of days that there are: base, name, day.
SELECT parent.relname::text AS base, child.relname::text AS name,
       to_date(right(child.relname, 8), 'YYYYMMDD') AS day
  FROM pg_inherits
  JOIN pg_class AS child ON child.oid = pg_inherits.inhrelid
  JOIN pg_class AS parent ON parent.oid = pg_inherits.inhparent
  JOIN pg_namespace ON pg_namespace.oid = parent.relnamespace
 WHERE pg_namespace.nspname = 'dispatcher' AND parent.relkind = 'p'
   AND child.relkind = 'r'
 ORDER BY day, base
