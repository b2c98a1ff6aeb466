-- Who must hear of changed interfaces ($1) and of changed names ($2 VPCs, $3 endpoints). The locks
-- make a concurrent move of an interface wait or be waited for: one of the two sees the other. The
-- VPCs are held since an earlier statement: this one would not see an attachment that it waited for.
WITH moved AS (
    SELECT id, host_id
      FROM network_interface
     WHERE id = ANY ($1::text[]) AND host_id IS NOT NULL
     ORDER BY id
       -- Not FOR SHARE: `advance` stamps these rows, and two that shared them would wait for each other.
       FOR NO KEY UPDATE
)
SELECT host_id, 'interface', id, ''
  FROM moved
UNION ALL
SELECT attachment.host_id, 'names', named.endpoint_id, named.vpc_id
  FROM unnest($2::text[], $3::text[]) AS named (vpc_id, endpoint_id)
  JOIN host_attachment AS attachment ON attachment.vpc_id = named.vpc_id
