-- Endpoint services, endpoints and their interfaces (spec 1.1 to 1.13, 2).
CREATE TABLE endpoint_service (
    id                   text PRIMARY KEY,
    owner_id             text NOT NULL REFERENCES account,
    vpc_id               text NOT NULL REFERENCES vpc,
    name                 text NOT NULL CONSTRAINT endpoint_service_name_once UNIQUE,
    state                text NOT NULL DEFAULT 'Available'
                         CHECK (state IN ('Pending', 'Available', 'Deleting', 'Deleted', 'Failed')),
    acceptance_required  boolean NOT NULL,
    private_dns_name     text,
    proxy_protocol_v2    boolean NOT NULL DEFAULT false,
    idle_timeout_seconds integer NOT NULL DEFAULT 350 CHECK (idle_timeout_seconds BETWEEN 60 AND 6000),
    created_at           timestamptz NOT NULL DEFAULT now(),
    deleted_at           timestamptz
);
CREATE INDEX endpoint_service_owner ON endpoint_service (owner_id, id);

CREATE TABLE service_listener (
    service_id text NOT NULL REFERENCES endpoint_service ON DELETE CASCADE,
    port       integer NOT NULL CHECK (port BETWEEN 1 AND 65535),
    PRIMARY KEY (service_id, port)
);

CREATE TABLE service_target (
    service_id    text NOT NULL,
    listener_port integer NOT NULL,
    address       inet NOT NULL,
    port          integer NOT NULL CHECK (port BETWEEN 1 AND 65535),
    zone_id       text NOT NULL,
    PRIMARY KEY (service_id, listener_port, address, port),
    FOREIGN KEY (service_id, listener_port) REFERENCES service_listener ON DELETE CASCADE
);

CREATE TABLE service_permission (
    id         text PRIMARY KEY,
    service_id text NOT NULL REFERENCES endpoint_service ON DELETE CASCADE,
    principal  text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT service_permission_once UNIQUE (service_id, principal)
);
CREATE INDEX service_permission_principal ON service_permission (principal);

CREATE TABLE vpc_endpoint (
    id                  text PRIMARY KEY,
    connection_id       text NOT NULL UNIQUE,
    owner_id            text NOT NULL REFERENCES account,
    vpc_id              text NOT NULL REFERENCES vpc,
    service_id          text NOT NULL REFERENCES endpoint_service,
    state               text NOT NULL CHECK (state IN (
                            'pendingAcceptance', 'pending', 'available', 'partial', 'rejected',
                            'expired', 'failed', 'deleting', 'deleted')),
    -- The part of its names that belongs to it alone (spec 3.2).
    label               text NOT NULL CHECK (label ~ '^[a-z0-9]{8}$'),
    private_dns_enabled boolean NOT NULL DEFAULT false,
    -- The private name claimed in the VPC while private DNS is on.
    private_dns_name    text,
    -- Whether its names lead anywhere: since it was first available, until it is rejected or deleted.
    published           boolean NOT NULL DEFAULT false,
    failure_reason      text NOT NULL DEFAULT '',
    revision            bigint NOT NULL DEFAULT 1,
    -- How many events it has had: their order, under this row's lock.
    event_sequence      bigint NOT NULL DEFAULT 0,
    state_changed_at    timestamptz NOT NULL DEFAULT now(),
    created_at          timestamptz NOT NULL DEFAULT now(),
    deleted_at          timestamptz,
    CONSTRAINT vpc_endpoint_private_name_is_claimed
        CHECK (private_dns_enabled = (private_dns_name IS NOT NULL))
);
-- A private name leads to one endpoint of a VPC; the claim ends with the endpoint (spec 3.4).
CREATE UNIQUE INDEX vpc_endpoint_private_name_once
    ON vpc_endpoint (vpc_id, private_dns_name)
 WHERE private_dns_enabled AND deleted_at IS NULL;
CREATE INDEX vpc_endpoint_owner ON vpc_endpoint (owner_id, id);
CREATE INDEX vpc_endpoint_vpc ON vpc_endpoint (vpc_id) WHERE deleted_at IS NULL;
CREATE INDEX vpc_endpoint_service ON vpc_endpoint (service_id, id);
-- What the reconcilers look for: endpoints that are on their way somewhere.
CREATE INDEX vpc_endpoint_unsettled ON vpc_endpoint (state, state_changed_at)
 WHERE state IN ('pendingAcceptance', 'pending', 'partial', 'deleting', 'deleted');

CREATE TABLE vpc_endpoint_group (
    endpoint_id text NOT NULL REFERENCES vpc_endpoint ON DELETE CASCADE,
    group_id    text NOT NULL REFERENCES security_group,
    PRIMARY KEY (endpoint_id, group_id)
);
CREATE INDEX vpc_endpoint_group_group ON vpc_endpoint_group (group_id);

CREATE TABLE network_interface (
    id                text PRIMARY KEY,
    endpoint_id       text NOT NULL REFERENCES vpc_endpoint,
    owner_id          text NOT NULL REFERENCES account,
    vpc_id            text NOT NULL REFERENCES vpc,
    subnet_id         text NOT NULL REFERENCES subnet,
    zone_id           text NOT NULL,
    address           inet NOT NULL,
    -- The host that owns it, and how often that changed (design 7).
    host_id           text REFERENCES host,
    epoch             bigint NOT NULL DEFAULT 0,
    -- The host's generation in which it last changed, and the one in which it was last seen bound:
    -- it is up to date when the second has reached the first.
    change_generation bigint NOT NULL DEFAULT 0,
    bound_generation  bigint NOT NULL DEFAULT 0,
    bound             boolean NOT NULL DEFAULT false,
    bind_error        text NOT NULL DEFAULT '',
    -- Set when it is to go: its row stays until its host has let go of it.
    removed_at        timestamptz,
    created_at        timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT network_interface_address_once UNIQUE (vpc_id, address)
);
-- One interface in each zone of an endpoint (spec 4.1).
CREATE UNIQUE INDEX network_interface_one_in_each_zone
    ON network_interface (endpoint_id, zone_id) WHERE removed_at IS NULL;
CREATE INDEX network_interface_owner ON network_interface (owner_id, id);
CREATE INDEX network_interface_subnet ON network_interface (subnet_id);
CREATE INDEX network_interface_host ON network_interface (host_id);
CREATE INDEX network_interface_homeless ON network_interface (vpc_id) WHERE host_id IS NULL;

-- Addresses rest for a minute before they are given out again (spec 4.1).
CREATE TABLE released_address (
    vpc_id      text NOT NULL REFERENCES vpc ON DELETE CASCADE,
    address     inet NOT NULL,
    released_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (vpc_id, address)
);

-- An interface's meters over all its hosts and their restarts. The `_seen` columns are what the
-- agent's present run last reported: only what was added since then counts.
CREATE TABLE interface_usage (
    network_interface_id text PRIMARY KEY REFERENCES network_interface ON DELETE CASCADE,
    bytes_in             bigint NOT NULL DEFAULT 0,
    bytes_out            bigint NOT NULL DEFAULT 0,
    total_connections    bigint NOT NULL DEFAULT 0,
    failed_connections   bigint NOT NULL DEFAULT 0,
    active_connections   bigint NOT NULL DEFAULT 0,
    boot_id              text NOT NULL DEFAULT '',
    bytes_in_seen        bigint NOT NULL DEFAULT 0,
    bytes_out_seen       bigint NOT NULL DEFAULT 0,
    total_seen           bigint NOT NULL DEFAULT 0,
    failed_seen          bigint NOT NULL DEFAULT 0
);

-- Every move of an endpoint, with who and why.
CREATE TABLE endpoint_history (
    endpoint_id   text NOT NULL REFERENCES vpc_endpoint ON DELETE CASCADE,
    revision      bigint NOT NULL,
    from_state    text,
    to_state      text NOT NULL,
    actor_side    text NOT NULL,
    actor_account text,
    reason        text NOT NULL DEFAULT '',
    at            timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (endpoint_id, revision)
);

-- The zones that a service is offered in: those where every listener has a target (the twin of
-- `postern_model::service::zones`).
CREATE VIEW service_zone AS
SELECT target.service_id, target.zone_id
  FROM service_target AS target
 GROUP BY target.service_id, target.zone_id
HAVING count(DISTINCT target.listener_port) = (
           SELECT count(*) FROM service_listener AS listener
            WHERE listener.service_id = target.service_id);

-- An endpoint with what belongs to it, as both of its sides are shown it.
CREATE VIEW endpoint_view AS
SELECT endpoint.id, endpoint.connection_id, endpoint.owner_id, endpoint.vpc_id, endpoint.service_id,
       service.name AS service_name, service.owner_id AS service_owner_id, endpoint.state,
       endpoint.label, endpoint.private_dns_name, endpoint.failure_reason, endpoint.revision,
       endpoint.created_at,
       ARRAY(SELECT carried.group_id
               FROM vpc_endpoint_group AS carried
              WHERE carried.endpoint_id = endpoint.id
              ORDER BY carried.group_id) AS group_ids,
       COALESCE((SELECT jsonb_agg(jsonb_build_object(
                            'id', interface.id,
                            'subnet', interface.subnet_id,
                            'zone', interface.zone_id,
                            'zone_name', zone.zone_name)
                        ORDER BY interface.zone_id)
                   FROM network_interface AS interface
                   JOIN account_zone AS zone
                     ON zone.account_id = interface.owner_id AND zone.zone_id = interface.zone_id
                  WHERE interface.endpoint_id = endpoint.id AND interface.removed_at IS NULL),
                '[]') AS interfaces
  FROM vpc_endpoint AS endpoint
  JOIN endpoint_service AS service ON service.id = endpoint.service_id;

-- The lowest address of a subnet, given by its first and last usable address, that no interface of
-- the VPC has and that was not released since `rested` (spec 4.1). The lowest free address is the
-- first one, or follows one that is not free.
CREATE FUNCTION free_address(of_vpc text, first inet, last inet, rested timestamptz)
RETURNS inet LANGUAGE sql STABLE AS $$
    WITH busy AS (
        SELECT address
          FROM network_interface
         WHERE vpc_id = of_vpc AND address BETWEEN first AND last
        UNION
        SELECT address
          FROM released_address
         WHERE vpc_id = of_vpc AND address BETWEEN first AND last AND released_at > rested
    ), candidate AS (
        SELECT first AS address
        UNION
        SELECT address + 1 FROM busy
    )
    SELECT min(candidate.address)
      FROM candidate
     WHERE candidate.address <= last
       AND NOT EXISTS (SELECT FROM busy WHERE busy.address = candidate.address)
$$;
