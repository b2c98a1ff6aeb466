-- A group that nobody uses: endpoints that are only still shown let go of it.
WITH shown AS (
    DELETE FROM vpc_endpoint_group WHERE group_id = $1
)
DELETE FROM security_group
 WHERE id = $1
