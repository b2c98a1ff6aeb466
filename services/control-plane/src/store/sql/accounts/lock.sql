-- What an account has at most is counted under this lock, so that two requests don't both fit.
SELECT id
  FROM account
 WHERE id = $1
   FOR NO KEY UPDATE
