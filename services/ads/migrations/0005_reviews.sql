-- Who decided what about an ad, requests that may be repeated, and how far the catalog has moved.

ALTER TABLE ads ADD COLUMN review_topic TEXT NOT NULL DEFAULT ''; -- subject of the policy that decided

-- Append-only: one row for each decision.
CREATE TABLE ad_reviews (
    ad       TEXT NOT NULL REFERENCES ads (id),
    revision BIGINT NOT NULL, -- of the ad, with the decision
    version  BIGINT NOT NULL, -- of the text that was looked at
    review   TEXT NOT NULL,   -- approved | under_review | disapproved
    topic    TEXT NOT NULL,
    reason   TEXT NOT NULL,
    reviewer TEXT NOT NULL,   -- policy, import, or whoever the operator says
    at       BIGINT NOT NULL,
    PRIMARY KEY (ad, revision)
);

-- What a call with an idempotency key was answered, for a day.
CREATE TABLE requests (
    idempotency_key TEXT PRIMARY KEY,
    body_hash       TEXT NOT NULL, -- SHA-256, hexadecimal
    answer          TEXT NOT NULL, -- JSON
    expires_at      BIGINT NOT NULL
);
CREATE INDEX requests_by_expiry ON requests (expires_at);

-- One row: rises with every change of what is booked, so that every process notices.
CREATE TABLE catalog_state (
    id      BIGINT PRIMARY KEY CHECK (id = 1),
    changes BIGINT NOT NULL
);
INSERT INTO catalog_state (id, changes) VALUES (1, 0);
