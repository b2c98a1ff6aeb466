-- Everything of the dispatcher: topics, who listens to them, and what is on its way to whom.

CREATE TABLE topic (
    id                uuid PRIMARY KEY,
    owner_id          text NOT NULL,
    region            text NOT NULL,
    name              text NOT NULL,
    display_name      text NOT NULL,
    policy            text NOT NULL,
    signature_version smallint NOT NULL,
    delivery_policy   text,
    created_at        timestamptz NOT NULL,
    CONSTRAINT topic_owner_is_an_account CHECK (owner_id ~ '^[0-9]{12}$'),
    CONSTRAINT topic_name_is_well_formed
        CHECK (name ~ '^[A-Za-z0-9_-]+$' AND length(name) <= 256),
    CONSTRAINT topic_policy_is_at_most_30_kb CHECK (octet_length(policy) <= 30720),
    CONSTRAINT topic_signature_version_is_known CHECK (signature_version IN (1, 2)),
    CONSTRAINT topic_name_is_its_owners_only_one UNIQUE (owner_id, region, name)
);

-- A subscription that was ended stays, so that its deliveries can be looked at and its endpoint can
-- take the end back.
CREATE TABLE subscription (
    id               uuid PRIMARY KEY,
    topic_id         uuid NOT NULL REFERENCES topic ON DELETE CASCADE,
    owner_id         text NOT NULL,
    principal        text NOT NULL,
    protocol         text NOT NULL,
    endpoint         text NOT NULL,
    -- Whom the load falls on: host and port of a web address, or the mail server. Deliveries under
    -- way are bounded for each.
    target           text NOT NULL,
    state            text NOT NULL,
    -- Whether only an authenticated caller may end it.
    guarded          boolean NOT NULL DEFAULT false,
    raw              boolean NOT NULL,
    delivery_policy  text,
    -- The token itself is known to the endpoint alone.
    token_sha256     bytea,
    token_expires_at timestamptz,
    created_at       timestamptz NOT NULL,
    confirmed_at     timestamptz,
    ended_at         timestamptz,
    CONSTRAINT subscription_owner_is_an_account CHECK (owner_id ~ '^[0-9]{12}$'),
    CONSTRAINT subscription_protocol_is_known
        CHECK (protocol IN ('http', 'https', 'email', 'email-json')),
    CONSTRAINT subscription_state_is_known CHECK (state IN ('pending', 'confirmed', 'ended')),
    CONSTRAINT subscription_confirmed_has_a_time
        CHECK (state <> 'confirmed' OR confirmed_at IS NOT NULL),
    CONSTRAINT subscription_ended_has_a_time CHECK ((state = 'ended') = (ended_at IS NOT NULL)),
    CONSTRAINT subscription_mail_is_never_raw CHECK (NOT raw OR protocol IN ('http', 'https'))
);
CREATE UNIQUE INDEX subscription_endpoint_is_there_once
    ON subscription (topic_id, protocol, endpoint)
 WHERE state <> 'ended';
CREATE INDEX subscription_by_topic ON subscription (topic_id, id);
CREATE INDEX subscription_by_owner ON subscription (owner_id, id) WHERE state <> 'ended';
CREATE INDEX subscription_by_token ON subscription (token_sha256) WHERE token_sha256 IS NOT NULL;

-- The events that were taken from the bus: a redelivered one changes nothing.
CREATE TABLE inbox (
    event_id    uuid PRIMARY KEY,
    received_at timestamptz NOT NULL
);
CREATE INDEX inbox_by_age ON inbox (received_at);

-- What a topic said to a notification, until the control plane has heard of it.
CREATE TABLE outcome (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id        uuid NOT NULL,
    notification_id text NOT NULL,
    topic_arn       text NOT NULL,
    allowed         boolean NOT NULL,
    reason          text NOT NULL,
    created_at      timestamptz NOT NULL,
    reported_at     timestamptz,
    CONSTRAINT outcome_is_there_once_for_an_event UNIQUE (event_id, notification_id)
);
CREATE INDEX outcome_to_report ON outcome (id) WHERE reported_at IS NULL;
CREATE INDEX outcome_by_age ON outcome (created_at);

CREATE TABLE message (
    id              uuid PRIMARY KEY,
    topic_id        uuid NOT NULL REFERENCES topic ON DELETE CASCADE,
    kind            text NOT NULL,
    event_id        uuid,
    notification_id text,
    subject         text,
    body            text NOT NULL,
    -- JSON whose order is kept: name -> {Type, Value}.
    attributes      text NOT NULL,
    published_by    text NOT NULL,
    -- First attempts of one key to one subscription are made in order.
    ordering_key    text,
    -- W3C trace context of what caused it.
    trace           jsonb NOT NULL,
    published_at    timestamptz NOT NULL,
    CONSTRAINT message_kind_is_known CHECK
        (kind IN ('Notification', 'SubscriptionConfirmation', 'UnsubscribeConfirmation')),
    CONSTRAINT message_is_there_once_for_an_event UNIQUE (event_id, notification_id)
);
CREATE INDEX message_by_topic ON message (topic_id);
CREATE INDEX message_by_age ON message (published_at);

CREATE TABLE delivery (
    id              uuid PRIMARY KEY,
    -- Breaks ties and pages lists; nothing relies on its order being that of the commits.
    seq             bigint GENERATED ALWAYS AS IDENTITY,
    message_id      uuid NOT NULL REFERENCES message ON DELETE CASCADE,
    topic_id        uuid NOT NULL REFERENCES topic ON DELETE CASCADE,
    subscription_id uuid NOT NULL REFERENCES subscription ON DELETE CASCADE,
    target          text NOT NULL,
    ordering_key    text,
    state           text NOT NULL DEFAULT 'pending',
    -- What a confirmation carries; forgotten when the delivery ends.
    token           text,
    attempts        integer NOT NULL DEFAULT 0,
    -- When it is due. While it is tried this is the end of the lease: whoever dies trying it leaves
    -- it to the others at that moment.
    next_attempt_at timestamptz NOT NULL,
    -- Who tries it: results of an earlier claim are not taken.
    claim           uuid,
    last_status     integer NOT NULL DEFAULT 0,
    last_error      text NOT NULL DEFAULT '',
    created_at      timestamptz NOT NULL,
    ended_at        timestamptz,
    CONSTRAINT delivery_state_is_known
        CHECK (state IN ('pending', 'delivered', 'dead-lettered', 'dropped')),
    CONSTRAINT delivery_ends_with_a_time CHECK ((state = 'pending') = (ended_at IS NULL)),
    CONSTRAINT delivery_is_there_once UNIQUE (message_id, subscription_id)
);
CREATE INDEX delivery_due ON delivery (target, next_attempt_at, seq) WHERE state = 'pending';
CREATE INDEX delivery_untried ON delivery (subscription_id, ordering_key, seq)
 WHERE state = 'pending' AND attempts = 0;
CREATE INDEX delivery_by_topic ON delivery (topic_id, seq);
CREATE INDEX delivery_by_subscription ON delivery (subscription_id, seq);

CREATE TABLE attempt (
    delivery_id uuid NOT NULL REFERENCES delivery ON DELETE CASCADE,
    number      integer NOT NULL,
    started_at  timestamptz NOT NULL,
    duration_ms bigint NOT NULL,
    status      integer NOT NULL,
    error       text NOT NULL,
    address     text NOT NULL,
    PRIMARY KEY (delivery_id, number)
);

-- The key that signs messages, shared by all replicas and kept over restarts, since receivers
-- remember its certificate. There is one row.
CREATE TABLE signing_key (
    id              smallint PRIMARY KEY DEFAULT 1,
    private_key_pem text NOT NULL,
    certificate_pem text NOT NULL,
    created_at      timestamptz NOT NULL,
    CONSTRAINT signing_key_is_only_one CHECK (id = 1)
);
