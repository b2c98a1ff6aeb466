DELETE FROM host_change
 WHERE changed_at < now() - make_interval(secs => $1)
