WITH ungrouped AS (
    DELETE FROM vpc_endpoint_group WHERE endpoint_id = $1
)
DELETE FROM connection_notification WHERE endpoint_id = $1
