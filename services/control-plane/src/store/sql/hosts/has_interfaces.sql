SELECT EXISTS (SELECT FROM network_interface WHERE host_id = $1)
