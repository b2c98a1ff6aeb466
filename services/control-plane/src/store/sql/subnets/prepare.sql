-- The VPC ($2, of $1) that a subnet is to be made in, and the zone ($3: its name in the account, or its
-- id). What a VPC has at most is counted under this lock.
SELECT vpc.cidr::text,
       (SELECT zone.zone_id
          FROM account_zone AS zone
         WHERE zone.account_id = $1 AND (zone.zone_name = $3 OR zone.zone_id = $3)) AS zone_id
  FROM vpc
 WHERE vpc.owner_id = $1 AND vpc.id = $2
   FOR NO KEY UPDATE OF vpc
