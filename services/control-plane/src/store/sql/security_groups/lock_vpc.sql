-- What a VPC has at most is counted under this lock.
SELECT id
  FROM vpc
 WHERE owner_id = $1 AND id = $2
   FOR NO KEY UPDATE
