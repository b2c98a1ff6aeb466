-- Messages, deliveries and attempts by the day, so that forgetting is dropping a table. A delivery and
-- its attempts lie with their message: `delivery.created_at` and `attempt.created_at` are
-- `message.published_at`, to the microsecond, and every statement that has the one prunes by it.
--
-- There are no foreign keys between them, which would cost a look-up for each row: a message and its
-- deliveries are written together, and what hangs on a subscription that goes is dropped by a trigger.

ALTER TABLE attempt RENAME TO old_attempt;
ALTER TABLE delivery RENAME TO old_delivery;
ALTER TABLE message RENAME TO old_message;
ALTER TABLE old_attempt DROP CONSTRAINT attempt_delivery_id_fkey;
ALTER TABLE old_delivery
    DROP CONSTRAINT delivery_message_id_fkey,
    DROP CONSTRAINT delivery_topic_id_fkey,
    DROP CONSTRAINT delivery_subscription_id_fkey,
    DROP CONSTRAINT delivery_is_there_once,
    DROP CONSTRAINT delivery_pkey;
ALTER TABLE old_message
    DROP CONSTRAINT message_topic_id_fkey,
    DROP CONSTRAINT message_is_there_once_for_an_event,
    DROP CONSTRAINT message_pkey;
ALTER TABLE old_attempt DROP CONSTRAINT attempt_pkey;
DROP INDEX message_by_topic, message_by_age, delivery_due, delivery_untried, delivery_by_topic,
           delivery_by_subscription;

CREATE TABLE message (LIKE old_message INCLUDING DEFAULTS INCLUDING CONSTRAINTS)
    PARTITION BY RANGE (published_at);
-- An event is in the inbox once, and so its messages are here once.
ALTER TABLE message ADD PRIMARY KEY (id, published_at);

CREATE SEQUENCE delivery_seq;
CREATE TABLE delivery (
    id              uuid NOT NULL,
    -- Breaks ties and pages lists; nothing relies on its order being that of the commits.
    seq             bigint NOT NULL DEFAULT nextval('delivery_seq'),
    message_id      uuid NOT NULL,
    topic_id        uuid NOT NULL,
    subscription_id uuid NOT NULL,
    target          text NOT NULL,
    ordering_key    text,
    -- Whether it waits until those before it of its subscription and key have ended, not just until
    -- they were tried once.
    ordered         boolean NOT NULL DEFAULT false,
    state           text NOT NULL DEFAULT 'pending',
    -- What a confirmation carries; forgotten when the delivery ends.
    token           text,
    -- Attempts in all, and how many of them were before it was last replayed: the others count for
    -- the delivery policy.
    attempts        integer NOT NULL DEFAULT 0,
    replayed_after  integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL,
    -- Whether next_attempt_at is a moment that the subscription's throttle gave to it.
    paced           boolean NOT NULL DEFAULT false,
    -- Who tries it, and until when it is nobody else's: whoever dies trying it leaves it to the others
    -- at that moment. The lease is in no index, so that a claim writes none.
    claim           uuid,
    lease_until     timestamptz NOT NULL DEFAULT '-infinity',
    last_status     integer NOT NULL DEFAULT 0,
    last_error      text NOT NULL DEFAULT '',
    created_at      timestamptz NOT NULL,
    ended_at        timestamptz,
    CONSTRAINT delivery_state_is_known
        CHECK (state IN ('pending', 'delivered', 'dead-lettered', 'dropped')),
    CONSTRAINT delivery_ends_with_a_time CHECK ((state = 'pending') = (ended_at IS NULL)),
    PRIMARY KEY (id, created_at),
    CONSTRAINT delivery_is_there_once UNIQUE (message_id, subscription_id, created_at)
) PARTITION BY RANGE (created_at);
ALTER SEQUENCE delivery_seq OWNED BY delivery.seq;
CREATE INDEX delivery_due ON delivery (target, next_attempt_at, seq) WHERE state = 'pending';
CREATE INDEX delivery_waiting ON delivery (subscription_id, ordering_key, seq)
 WHERE state = 'pending';
CREATE INDEX delivery_by_topic ON delivery (topic_id, seq);
CREATE INDEX delivery_by_subscription ON delivery (subscription_id, seq);

CREATE SEQUENCE attempt_seq;
CREATE TABLE attempt (
    delivery_id    uuid NOT NULL,
    number         integer NOT NULL,
    topic_id       uuid NOT NULL,
    -- Whoever watches asks for what came after the last that was seen.
    seq            bigint NOT NULL DEFAULT nextval('attempt_seq'),
    started_at     timestamptz NOT NULL,
    duration_ms    bigint NOT NULL,
    status         integer NOT NULL,
    error          text NOT NULL,
    address        text NOT NULL,
    -- What was sent and what was read of the answer, in bytes.
    request_bytes  integer NOT NULL DEFAULT 0,
    response_bytes integer NOT NULL DEFAULT 0,
    -- The beginning of a refusal, as text; never from an address that is not public.
    response       text NOT NULL DEFAULT '',
    created_at     timestamptz NOT NULL,
    PRIMARY KEY (delivery_id, number, created_at)
) PARTITION BY RANGE (created_at);
ALTER SEQUENCE attempt_seq OWNED BY attempt.seq;
CREATE INDEX attempt_by_topic ON attempt (topic_id, seq);

-- Makes the tables of `days` days from `first` on, where they are not there. Attached rather than made
-- in place: that lets others read and write meanwhile.
CREATE FUNCTION make_days(first date, days integer) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    base text;
    day date;
    name text;
    made integer := 0;
BEGIN
    -- One at a time: replicas do this together.
    PERFORM pg_advisory_xact_lock(hashtext('dispatcher.make_days'));
    FOREACH base IN ARRAY ARRAY['message', 'delivery', 'attempt'] LOOP
        FOR day IN SELECT first + number FROM generate_series(0, days - 1) AS number LOOP
            name := base || '_' || to_char(day, 'YYYYMMDD');
            CONTINUE WHEN to_regclass('dispatcher.' || name) IS NOT NULL;
            EXECUTE format(
                'CREATE TABLE dispatcher.%I (LIKE dispatcher.%I INCLUDING DEFAULTS '
                'INCLUDING CONSTRAINTS) WITH (fillfactor = 80)', name, base);
            EXECUTE format(
                'ALTER TABLE dispatcher.%I ATTACH PARTITION dispatcher.%I FOR VALUES FROM (%L) TO (%L)',
                base, name, day::text || ' 00:00:00+00', (day + 1)::text || ' 00:00:00+00');
            made := made + 1;
        END LOOP;
    END LOOP;
    RETURN made;
END $$;

-- What is there is carried over: the days on which something was published, and those to come.
SELECT make_days(day, 1)
  FROM (SELECT DISTINCT (published_at AT TIME ZONE 'UTC')::date AS day FROM old_message) AS days;
SELECT make_days((now() AT TIME ZONE 'UTC')::date - 1, 9);

INSERT INTO message SELECT * FROM old_message;
INSERT INTO delivery (id, seq, message_id, topic_id, subscription_id, target, ordering_key, ordered,
                      state, token, attempts, next_attempt_at, last_status, last_error, created_at,
                      ended_at)
SELECT old.id, old.seq, old.message_id, old.topic_id, old.subscription_id, old.target,
       old.ordering_key, subscription.ordered, old.state, old.token, old.attempts,
       old.next_attempt_at, old.last_status, old.last_error, message.published_at, old.ended_at
  FROM old_delivery AS old
  JOIN old_message AS message ON message.id = old.message_id
  JOIN subscription ON subscription.id = old.subscription_id;
INSERT INTO attempt (delivery_id, number, topic_id, started_at, duration_ms, status, error, address,
                     created_at)
SELECT old.delivery_id, old.number, delivery.topic_id, old.started_at, old.duration_ms, old.status,
       old.error, old.address, delivery.created_at
  FROM old_attempt AS old
  JOIN delivery ON delivery.id = old.delivery_id
 ORDER BY old.started_at;
SELECT setval('delivery_seq', coalesce(max(seq), 0) + 1, false) FROM delivery;
DROP TABLE old_attempt, old_delivery, old_message;

-- Nobody is left to deliver to.
CREATE FUNCTION drop_deliveries_of_gone() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE dispatcher.delivery
       SET state = 'dropped', ended_at = now(), token = NULL, claim = NULL
     WHERE state = 'pending' AND subscription_id IN (SELECT gone.id FROM gone);
    RETURN NULL;
END $$;
CREATE TRIGGER subscription_gone AFTER DELETE ON subscription
    REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION drop_deliveries_of_gone();

-- When the next message of a throttled subscription may be sent, for all replicas.
CREATE TABLE pace (
    subscription_id uuid PRIMARY KEY REFERENCES subscription ON DELETE CASCADE,
    free_at         timestamptz NOT NULL
);

-- Several keys: the newest whose time has come signs, and the certificates of those before it are
-- served until what they signed is out of use.
ALTER TABLE signing_key DROP CONSTRAINT signing_key_is_only_one;
ALTER TABLE signing_key ALTER COLUMN id DROP DEFAULT;
ALTER TABLE signing_key ALTER COLUMN id TYPE bigint;
ALTER TABLE signing_key ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (START WITH 2);
ALTER TABLE signing_key ALTER COLUMN private_key_pem DROP NOT NULL;
ALTER TABLE signing_key
    -- The private key under a key of the configuration (ChaCha20-Poly1305: nonce, text, tag).
    ADD COLUMN sealed bytea,
    -- Which key of the configuration.
    ADD COLUMN sealed_with text,
    -- When a newer one took over.
    ADD COLUMN retired_at timestamptz,
    -- The certificate's name in addresses is made of its SHA-256.
    ADD COLUMN certificate_sha256 text;
UPDATE signing_key
   SET certificate_sha256 = encode(sha256(convert_to(certificate_pem, 'UTF8')), 'hex');
ALTER TABLE signing_key
    ALTER COLUMN certificate_sha256 SET NOT NULL,
    ADD CONSTRAINT signing_key_is_open_or_sealed CHECK (private_key_pem IS NULL OR sealed IS NULL),
    ADD CONSTRAINT signing_key_sealed_says_with_what
        CHECK ((sealed IS NULL) = (sealed_with IS NULL)),
    ADD CONSTRAINT signing_key_that_signs_is_there
        CHECK (retired_at IS NOT NULL OR private_key_pem IS NOT NULL OR sealed IS NOT NULL);
-- One signs at a time.
CREATE UNIQUE INDEX signing_key_in_use ON signing_key ((true)) WHERE retired_at IS NULL;

-- What was given up and goes to a queue, until the broker has it. The text is that of the last attempt.
CREATE TABLE redrive (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    delivery_id     uuid NOT NULL,
    message_id      uuid NOT NULL,
    topic_arn       text NOT NULL,
    subscription_id uuid NOT NULL,
    -- The queue's ARN, as the subscription's redrive policy names it.
    queue_arn       text NOT NULL,
    body            text NOT NULL,
    attempts        integer NOT NULL,
    status          integer NOT NULL,
    error           text NOT NULL,
    given_up_at     timestamptz NOT NULL
);
