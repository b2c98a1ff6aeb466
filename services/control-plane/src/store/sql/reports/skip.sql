-- The next generation without a change: so that other content need not come under the same number.
UPDATE host
   SET desired_generation = desired_generation + 1
 WHERE id = $1
