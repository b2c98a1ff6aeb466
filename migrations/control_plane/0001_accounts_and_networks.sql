-- Accounts, their keys, and their networks (spec 1.16 and 4).
CREATE EXTENSION IF NOT EXISTS btree_gist WITH SCHEMA public;

CREATE TABLE account (
    id         text PRIMARY KEY CONSTRAINT account_id_is_12_digits CHECK (id ~ '^[0-9]{12}$'),
    name       text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- What an account calls the zones: a permutation of its own, fixed when the account is made (spec 5.2).
CREATE TABLE account_zone (
    account_id text NOT NULL REFERENCES account ON DELETE CASCADE,
    zone_name  text NOT NULL,
    zone_id    text NOT NULL,
    PRIMARY KEY (account_id, zone_name),
    CONSTRAINT account_zone_id_once UNIQUE (account_id, zone_id)
);

-- Only the hash of a key is kept: keys are 256 random bits, so that a plain hash can't be reversed.
CREATE TABLE api_key (
    id            text PRIMARY KEY,
    account_id    text NOT NULL REFERENCES account ON DELETE CASCADE,
    description   text NOT NULL,
    secret_sha256 bytea NOT NULL CONSTRAINT api_key_secret_once UNIQUE,
    created_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX api_key_account ON api_key (account_id, id);

CREATE TABLE vpc (
    id                   text PRIMARY KEY,
    owner_id             text NOT NULL REFERENCES account,
    name                 text NOT NULL,
    cidr                 cidr NOT NULL,
    enable_dns_support   boolean NOT NULL DEFAULT true,
    enable_dns_hostnames boolean NOT NULL DEFAULT false,
    created_at           timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX vpc_owner ON vpc (owner_id, id);

CREATE TABLE subnet (
    id         text PRIMARY KEY,
    vpc_id     text NOT NULL REFERENCES vpc,
    owner_id   text NOT NULL REFERENCES account,
    cidr       cidr NOT NULL,
    zone_id    text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT subnets_of_a_vpc_do_not_overlap
        EXCLUDE USING gist (vpc_id WITH =, cidr inet_ops WITH &&)
);
CREATE INDEX subnet_owner ON subnet (owner_id, id);

CREATE TABLE security_group (
    id          text PRIMARY KEY,
    vpc_id      text NOT NULL REFERENCES vpc,
    owner_id    text NOT NULL REFERENCES account,
    name        text NOT NULL,
    description text NOT NULL,
    is_default  boolean NOT NULL DEFAULT false,
    created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX security_group_name_once ON security_group (vpc_id, lower(name));
CREATE INDEX security_group_owner ON security_group (owner_id, id);

-- An ingress rule: from a prefix, or from the members of a group.
CREATE TABLE security_group_rule (
    id                  text PRIMARY KEY,
    group_id            text NOT NULL REFERENCES security_group ON DELETE CASCADE,
    protocol            text NOT NULL,
    from_port           integer NOT NULL CHECK (from_port BETWEEN 0 AND 65535),
    to_port             integer NOT NULL CHECK (to_port BETWEEN from_port AND 65535),
    source              cidr,
    referenced_group_id text REFERENCES security_group,
    description         text NOT NULL DEFAULT '',
    created_at          timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT security_group_rule_has_one_source
        CHECK (num_nonnulls(source, referenced_group_id) = 1)
);
CREATE UNIQUE INDEX security_group_rule_once
    ON security_group_rule (group_id, protocol, from_port, to_port, source)
 WHERE source IS NOT NULL;
CREATE INDEX security_group_rule_reference ON security_group_rule (referenced_group_id);
