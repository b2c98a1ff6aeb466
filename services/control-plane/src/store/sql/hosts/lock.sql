-- Nobody else comes to depend on the host, and its generation stays, until the commit.
SELECT id
  FROM host
 WHERE id = $1
   FOR UPDATE
