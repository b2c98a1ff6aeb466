-- What subscriptions may ask for besides: filters, order, digests, dead-letter queues, secrets; and how
-- they are doing. Expand only: code that has not heard of these columns goes on working.

-- Where notices about the topic go, such as that a subscription is disabled: another topic of the owner.
ALTER TABLE topic ADD COLUMN notice_topic_arn text;

ALTER TABLE subscription
    -- Which messages are wanted; none: all. The hash is of scope and document: subscriptions with the
    -- same filter are decided together.
    ADD COLUMN filter_policy text,
    ADD COLUMN filter_scope text NOT NULL DEFAULT 'MessageAttributes',
    ADD COLUMN filter_sha256 bytea,
    -- `{"deadLetterTargetArn": "arn:aws:sqs:<region>:<account>:<queue>"}`; the ARN stands for the AMQP
    -- queue `postern.redrive.<account>.<queue>`.
    ADD COLUMN redrive_policy text,
    -- Whether a message waits until those before it with the same ordering key have ended, retries
    -- and all. Without it only first attempts are in order.
    ADD COLUMN ordered boolean NOT NULL DEFAULT false,
    -- Collects messages for so many seconds and sends them as one mail; 0 sends each by itself.
    ADD COLUMN digest_seconds integer NOT NULL DEFAULT 0,
    -- What messages to web addresses are signed with besides (Standard Webhooks): `whsec_` and base64.
    -- The previous one signs too, until its time.
    ADD COLUMN webhook_secret text,
    ADD COLUMN webhook_secret_previous text,
    ADD COLUMN webhook_secret_previous_until timestamptz,
    -- How deliveries go. The streak counts deliveries that were given up since one was taken, and
    -- failing_since is when the first of them was. A disabled subscription gets no new messages.
    ADD COLUMN last_success_at timestamptz,
    ADD COLUMN failure_streak integer NOT NULL DEFAULT 0,
    ADD COLUMN failing_since timestamptz,
    ADD COLUMN disabled_at timestamptz,
    ADD COLUMN disabled_reason text,
    -- When the owner was told of it.
    ADD COLUMN disabled_noticed_at timestamptz,
    ADD CONSTRAINT subscription_filter_scope_is_known
        CHECK (filter_scope IN ('MessageAttributes', 'MessageBody')),
    ADD CONSTRAINT subscription_filter_has_a_hash
        CHECK ((filter_policy IS NULL) = (filter_sha256 IS NULL)),
    ADD CONSTRAINT subscription_digests_are_mails_of_a_day_at_most
        CHECK (digest_seconds = 0 OR (protocol = 'email' AND digest_seconds BETWEEN 1 AND 86400)),
    ADD CONSTRAINT subscription_previous_secret_ends
        CHECK ((webhook_secret_previous IS NULL) = (webhook_secret_previous_until IS NULL)),
    ADD CONSTRAINT subscription_streak_counts CHECK (failure_streak >= 0),
    ADD CONSTRAINT subscription_disabled_has_a_reason
        CHECK ((disabled_at IS NULL) = (disabled_reason IS NULL));

-- Two random UUIDs have 244 random bits.
UPDATE subscription
   SET webhook_secret = 'whsec_' || encode(
           decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex'),
           'base64')
 WHERE protocol IN ('http', 'https');

CREATE INDEX subscription_with_filter ON subscription (topic_id, filter_sha256)
 WHERE filter_sha256 IS NOT NULL AND state <> 'ended';
CREATE INDEX subscription_with_digest ON subscription (topic_id) WHERE digest_seconds > 0;
CREATE INDEX subscription_disabled_unnoticed ON subscription (disabled_at)
 WHERE disabled_at IS NOT NULL AND disabled_noticed_at IS NULL;

-- What each protocol gets in place of the body, when the publisher said so (MessageStructure json): a
-- JSON object, protocol to text.
ALTER TABLE message ADD COLUMN variants jsonb;
-- A digest: the body is a JSON list of the messages in it.
ALTER TABLE message DROP CONSTRAINT message_kind_is_known;
ALTER TABLE message ADD CONSTRAINT message_kind_is_known CHECK
    (kind IN ('Notification', 'SubscriptionConfirmation', 'UnsubscribeConfirmation', 'Digest'));

-- Messages that wait for their subscription's next digest. They are copies: a digest does not depend
-- on how long messages are kept.
CREATE TABLE digest_item (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subscription_id uuid NOT NULL REFERENCES subscription ON DELETE CASCADE,
    message_id      uuid NOT NULL,
    subject         text,
    body            text NOT NULL,
    published_at    timestamptz NOT NULL,
    CONSTRAINT digest_item_is_there_once UNIQUE (subscription_id, message_id)
);
CREATE INDEX digest_item_by_subscription ON digest_item (subscription_id, published_at, id);

-- Topics whose policy changed, until the control plane has heard of it: it asks again for notifications
-- that the topic had refused.
CREATE TABLE policy_change (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic_arn  text NOT NULL,
    created_at timestamptz NOT NULL
);
