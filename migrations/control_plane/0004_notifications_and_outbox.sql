-- Connection notifications (spec 1.13), the outbox (design 2 and 3), and client tokens (spec 0.3).
CREATE TABLE connection_notification (
    id              text PRIMARY KEY,
    owner_id        text NOT NULL REFERENCES account,
    service_id      text REFERENCES endpoint_service,
    endpoint_id     text REFERENCES vpc_endpoint,
    topic_arn       text NOT NULL,
    events          text[] NOT NULL,
    state           text NOT NULL DEFAULT 'Enabled' CHECK (state IN ('Enabled', 'Disabled')),
    disabled_reason text NOT NULL DEFAULT '',
    -- How often in a row the topic refused, and the event that was last reported: a repeated report
    -- of one event counts once.
    denials         integer NOT NULL DEFAULT 0,
    last_event_id   text NOT NULL DEFAULT '',
    created_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT connection_notification_is_about_one_thing
        CHECK (num_nonnulls(service_id, endpoint_id) = 1),
    CONSTRAINT connection_notification_has_events CHECK (cardinality(events) > 0)
);
CREATE INDEX connection_notification_owner ON connection_notification (owner_id, id);
CREATE INDEX connection_notification_service ON connection_notification (service_id);
CREATE INDEX connection_notification_endpoint ON connection_notification (endpoint_id);

-- Events on their way to the bus. Claimed by state, never by a remembered highest number: a sequence
-- is not in the order of commits. Order is per endpoint, by `sequence`, which its row lock made.
CREATE TABLE outbox (
    id            uuid PRIMARY KEY,
    endpoint_id   text NOT NULL,
    sequence      bigint NOT NULL,
    kind          text NOT NULL,
    body          jsonb NOT NULL,
    trace_context jsonb NOT NULL DEFAULT '{}',
    created_at    timestamptz NOT NULL DEFAULT now(),
    published_at  timestamptz,
    CONSTRAINT outbox_order UNIQUE (endpoint_id, sequence)
);
CREATE INDEX outbox_unpublished ON outbox (created_at, endpoint_id, sequence)
 WHERE published_at IS NULL;
CREATE INDEX outbox_published ON outbox (published_at) WHERE published_at IS NOT NULL;

-- What a request with a client token made. The fingerprint tells a repeat from another request.
CREATE TABLE client_token (
    account_id  text NOT NULL REFERENCES account ON DELETE CASCADE,
    action      text NOT NULL,
    token       text NOT NULL,
    fingerprint bytea NOT NULL,
    resource_id text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account_id, action, token)
);
CREATE INDEX client_token_age ON client_token (created_at);
