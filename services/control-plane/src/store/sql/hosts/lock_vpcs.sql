-- The VPCs that a host reaches: nobody places an interface by an attachment that is going away.
SELECT vpc.id
  FROM vpc
 WHERE vpc.id IN (SELECT vpc_id FROM host_attachment WHERE host_id = $1)
 ORDER BY vpc.id
   FOR UPDATE
