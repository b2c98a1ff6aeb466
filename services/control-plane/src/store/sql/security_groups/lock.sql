-- Nobody else comes to carry the group, and its rules stay, until the commit.
SELECT is_default
  FROM security_group
 WHERE owner_id = $1 AND id = $2
   FOR UPDATE
