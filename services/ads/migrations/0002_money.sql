-- What is owed, what is held, and what happened.

-- One row a campaign and UTC day. Always: settled <= budget and, while the budget is not lowered,
-- settled + reserved <= budget.
CREATE TABLE daily_spend (
    campaign        TEXT NOT NULL REFERENCES campaigns (id),
    day             TEXT NOT NULL,
    settled_micros  BIGINT NOT NULL CHECK (settled_micros >= 0),
    reserved_micros BIGINT NOT NULL CHECK (reserved_micros >= 0),
    PRIMARY KEY (campaign, day)
);

-- The price of one shown slot, held until the click, or until it expires.
CREATE TABLE reservations (
    nonce         TEXT PRIMARY KEY, -- auction:slot:ad
    campaign      TEXT NOT NULL REFERENCES campaigns (id),
    day           TEXT NOT NULL,
    amount_micros BIGINT NOT NULL CHECK (amount_micros > 0),
    expires_at    BIGINT NOT NULL
);
CREATE INDEX reservations_by_expiry ON reservations (expires_at);

-- Append-only: no statement of the engine updates or deletes a row. Summing amount_micros by campaign and day gives
-- daily_spend.settled_micros.
CREATE TABLE events (
    nonce         TEXT NOT NULL,
    kind          TEXT NOT NULL CHECK (kind IN ('impression', 'click')),
    auction_id    TEXT NOT NULL,
    ad            TEXT NOT NULL REFERENCES ads (id),
    campaign      TEXT NOT NULL REFERENCES campaigns (id),
    day           TEXT NOT NULL, -- of the decision, whose budget pays
    amount_micros BIGINT NOT NULL CHECK (amount_micros >= 0),
    at            BIGINT NOT NULL,
    status        TEXT NOT NULL, -- recorded | billed | free_overdelivery | orphan
    PRIMARY KEY (nonce, kind)
);
CREATE INDEX events_by_campaign ON events (campaign, day);

-- Running totals of valid events by ad, kept with the event in one transaction.
CREATE TABLE ad_counts (
    ad          TEXT PRIMARY KEY REFERENCES ads (id),
    impressions BIGINT NOT NULL,
    clicks      BIGINT NOT NULL
);

-- Keys of event tokens. The newest signs, all verify.
CREATE TABLE secrets (
    kid        BIGINT PRIMARY KEY,
    hmac_key   TEXT NOT NULL, -- 32 bytes, hexadecimal
    created_at BIGINT NOT NULL
);
