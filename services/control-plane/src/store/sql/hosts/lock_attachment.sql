-- An attachment under the lock of its VPC: nobody places an interface by it until the commit.
SELECT attachment.host_id, attachment.vpc_id
  FROM host_attachment AS attachment
  JOIN vpc ON vpc.id = attachment.vpc_id
 WHERE attachment.id = $1
   FOR UPDATE OF vpc
