-- A VPC ($1, of $2, named $3, range $4, host names $5) with its default group ($6), whose members may
-- talk to each other (rule $7); no row where the account has $8 VPCs already. The account is locked.
WITH made AS (
    INSERT INTO vpc (id, owner_id, name, cidr, enable_dns_hostnames)
    SELECT $1, $2, $3, $4::cidr, $5
     WHERE (SELECT count(*) FROM vpc WHERE owner_id = $2) < $8
    RETURNING *
), grouped AS (
    INSERT INTO security_group (id, vpc_id, owner_id, name, description, is_default)
    SELECT $6, made.id, made.owner_id, 'default', 'default VPC security group', true
      FROM made
    RETURNING id
), ruled AS (
    INSERT INTO security_group_rule
           (id, group_id, protocol, from_port, to_port, referenced_group_id)
    SELECT $7, grouped.id, '-1', 0, 65535, grouped.id
      FROM grouped
)
SELECT id, owner_id, name, cidr::text, enable_dns_support, enable_dns_hostnames, created_at
  FROM made
