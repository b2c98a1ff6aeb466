-- Gives interfaces ($1) to hosts ($2), under a new epoch: what the old host still says is not counted.
UPDATE network_interface AS interface
   SET host_id = moved.host_id,
       epoch = interface.epoch + 1,
       change_generation = 0,
       bound_generation = 0,
       bound = false,
       bind_error = ''
  FROM unnest($1::text[], $2::text[]) AS moved (id, host_id)
 WHERE interface.id = moved.id
