-- What a host has let go of is asked with each of its answers: found without looking at all that it has.
CREATE INDEX network_interface_leaving
    ON network_interface (host_id, change_generation)
 WHERE removed_at IS NOT NULL AND host_id IS NOT NULL;
