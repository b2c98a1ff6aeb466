SELECT pg_notify('postern_control_plane', $1)
