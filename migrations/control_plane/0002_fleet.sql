-- Hosts, how they reach VPCs, and what changed for each (design 5).
CREATE TABLE host (
    id                 text PRIMARY KEY,
    name               text NOT NULL CONSTRAINT host_name_once UNIQUE,
    zone_id            text NOT NULL,
    agent_version      text NOT NULL DEFAULT '',
    -- Counts the changes of the host's desired state. Advanced under this row's lock only, so that
    -- its order is the order of commits.
    desired_generation bigint NOT NULL DEFAULT 1,
    applied_generation bigint NOT NULL DEFAULT 0,
    -- The heartbeat; the stream's session says which of two streams is the newer one.
    last_seen_at       timestamptz,
    session            bigint NOT NULL DEFAULT 0,
    connected          boolean NOT NULL DEFAULT false,
    created_at         timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE host_attachment (
    id                text PRIMARY KEY,
    host_id           text NOT NULL REFERENCES host,
    vpc_id            text NOT NULL REFERENCES vpc,
    -- The VPC's range, which never changes: here for the exclusion below.
    cidr              cidr NOT NULL,
    kind              text NOT NULL CHECK (kind IN ('loopback', 'interface', 'namespace')),
    interface_address inet,
    network_namespace text,
    resolver_endpoint text NOT NULL DEFAULT '',
    created_at        timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT host_attachment_once UNIQUE (host_id, vpc_id),
    CONSTRAINT host_attachment_says_how CHECK (
        (kind = 'interface') = (interface_address IS NOT NULL)
        AND (kind = 'namespace') = (network_namespace IS NOT NULL)),
    -- Only namespaces keep equal addresses apart.
    CONSTRAINT host_attachments_outside_namespaces_do_not_overlap
        EXCLUDE USING gist (host_id WITH =, cidr inet_ops WITH &&) WHERE (kind <> 'namespace')
);
CREATE INDEX host_attachment_vpc ON host_attachment (vpc_id);

-- Which object of a host's state changed in which generation: what a delta is made from. The object
-- itself is read when it is sent, so a row says only that it is different, or gone.
CREATE TABLE host_change (
    host_id       text NOT NULL REFERENCES host ON DELETE CASCADE,
    generation    bigint NOT NULL,
    kind          text NOT NULL CHECK (kind IN ('attachment', 'interface', 'names')),
    object_id     text NOT NULL,
    -- For `names`: the VPC. Empty otherwise.
    vpc_id        text NOT NULL DEFAULT '',
    -- W3C trace context of the request that caused it.
    trace_context jsonb NOT NULL DEFAULT '{}',
    changed_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (host_id, generation, kind, object_id, vpc_id)
);
CREATE INDEX host_change_age ON host_change (changed_at);

-- Work that one replica does at a time. The token grows with each holder and fences off the last.
CREATE TABLE lease (
    name       text PRIMARY KEY,
    holder     text NOT NULL,
    token      bigint NOT NULL,
    expires_at timestamptz NOT NULL
);
