SELECT desired_generation
  FROM host
 WHERE id = $1
