-- A host that owns no interface, with its attachments.
WITH attachments AS (
    DELETE FROM host_attachment WHERE host_id = $1
)
DELETE FROM host
 WHERE id = $1
