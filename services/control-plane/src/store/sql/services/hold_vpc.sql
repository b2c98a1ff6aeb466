SELECT text(cidr) AS cidr
  FROM vpc
 WHERE owner_id = $1 AND id = $2
   FOR KEY SHARE
