SELECT make_days($1, $2)
