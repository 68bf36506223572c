-- Budgets in scopes, holds of what a shown ad may cost, a double-entry ledger, and the log of decisions.

-- One row a budget scope: 'day/<day>/<campaign>', 'life/<campaign>', 'account/<advertiser>'. Always: settled <= budget.
CREATE TABLE scopes (
    scope           TEXT PRIMARY KEY,
    settled_micros  BIGINT NOT NULL CHECK (settled_micros >= 0),
    reserved_micros BIGINT NOT NULL CHECK (reserved_micros >= 0), -- sum of the open holds
    variance        BIGINT NOT NULL CHECK (variance >= 0), -- sum of theirs, in millions of squared micros
    limit_micros    BIGINT NOT NULL -- the budget when money was last settled; a later one may be lower
);

INSERT INTO scopes (scope, settled_micros, reserved_micros, variance, limit_micros)
    SELECT 'day/' || day || '/' || campaign, settled_micros, reserved_micros, 0, settled_micros FROM daily_spend;
INSERT INTO scopes (scope, settled_micros, reserved_micros, variance, limit_micros)
    SELECT 'life/' || campaign, CAST(SUM(settled_micros) AS BIGINT), CAST(SUM(reserved_micros) AS BIGINT), 0,
    CAST(SUM(settled_micros) AS BIGINT) FROM daily_spend GROUP BY campaign;
INSERT INTO scopes (scope, settled_micros, reserved_micros, variance, limit_micros)
    SELECT 'account/' || c.advertiser, CAST(SUM(s.settled_micros) AS BIGINT), CAST(SUM(s.reserved_micros) AS BIGINT), 0,
    CAST(SUM(s.settled_micros) AS BIGINT) FROM daily_spend s JOIN campaigns c ON c.id = s.campaign GROUP BY c.advertiser;

-- What one shown slot may still cost, until it is settled or expires.
CREATE TABLE holds (
    nonce        TEXT PRIMARY KEY, -- auction:slot:ad
    campaign     TEXT NOT NULL REFERENCES campaigns (id),
    advertiser   TEXT NOT NULL REFERENCES advertisers (id),
    day          TEXT NOT NULL,
    held_micros  BIGINT NOT NULL CHECK (held_micros > 0), -- expected liability, or the whole price near the end of a budget
    variance     BIGINT NOT NULL CHECK (variance >= 0),
    expires_at   BIGINT NOT NULL
);
CREATE INDEX holds_by_expiry ON holds (expires_at);
INSERT INTO holds (nonce, campaign, advertiser, day, held_micros, variance, expires_at)
    SELECT r.nonce, r.campaign, c.advertiser, r.day, r.amount_micros, 0, r.expires_at
    FROM reservations r JOIN campaigns c ON c.id = r.campaign;

ALTER TABLE events ADD COLUMN price_micros BIGINT NOT NULL DEFAULT 0; -- of the token; amount_micros is what was charged of it
ALTER TABLE events ADD COLUMN reason TEXT NOT NULL DEFAULT '';        -- why it was not valid
UPDATE events SET price_micros = amount_micros;

-- Append-only, double entry: the rows of one entry add up to nothing.
CREATE TABLE postings (
    entry         TEXT NOT NULL, -- nonce/kind of the event
    account       TEXT NOT NULL, -- advertiser/<id> | credit/<id> | revenue | publisher
    amount_micros BIGINT NOT NULL,
    day           TEXT NOT NULL,
    at            BIGINT NOT NULL,
    PRIMARY KEY (entry, account)
);
INSERT INTO postings (entry, account, amount_micros, day, at)
    SELECT e.nonce || '/' || e.kind, 'advertiser/' || c.advertiser, e.amount_micros, e.day, e.at
    FROM events e JOIN campaigns c ON c.id = e.campaign WHERE e.amount_micros > 0;
INSERT INTO postings (entry, account, amount_micros, day, at)
    SELECT e.nonce || '/' || e.kind, 'revenue', -e.amount_micros, e.day, e.at FROM events e WHERE e.amount_micros > 0;

CREATE TABLE balances (
    account       TEXT PRIMARY KEY,
    amount_micros BIGINT NOT NULL
);
INSERT INTO balances (account, amount_micros)
    SELECT account, CAST(SUM(amount_micros) AS BIGINT) FROM postings GROUP BY account;

-- What was decided, enough to run the auction again.
CREATE TABLE decisions (
    auction_id TEXT PRIMARY KEY,
    at         BIGINT NOT NULL,
    day        TEXT NOT NULL,
    query      TEXT NOT NULL, -- as asked, in lower case, at most 200 characters; empty when queries are not kept
    outcome    TEXT NOT NULL, -- filled | unfilled
    log        TEXT NOT NULL  -- JSON
);
CREATE INDEX decisions_by_time ON decisions (at);

-- One row a shown slot: what its events are judged, learnt and reported by.
CREATE TABLE served (
    nonce        TEXT PRIMARY KEY,
    auction_id   TEXT NOT NULL,
    ad           TEXT NOT NULL,
    campaign     TEXT NOT NULL,
    advertiser   TEXT NOT NULL,
    day          TEXT NOT NULL,
    at           BIGINT NOT NULL,
    slot         BIGINT NOT NULL,
    billing      TEXT NOT NULL, -- per_click | per_impression
    bid_micros   BIGINT NOT NULL,
    price_micros BIGINT NOT NULL,
    probability  DOUBLE PRECISION NOT NULL,
    propensity   DOUBLE PRECISION NOT NULL,
    match_type   TEXT NOT NULL,
    keyword      TEXT NOT NULL,
    query        TEXT NOT NULL,
    person       TEXT NOT NULL, -- keyed hash, empty when unknown
    features     TEXT NOT NULL, -- of the click model
    log_odds     DOUBLE PRECISION NOT NULL
);
CREATE INDEX served_by_campaign ON served (campaign, day);
CREATE INDEX served_by_time ON served (at);

-- What became of valid impressions, in the order in which the click model learns it.
CREATE TABLE outcomes (
    sequence BIGINT PRIMARY KEY,
    nonce    TEXT NOT NULL,
    clicked  BIGINT NOT NULL -- 1 or 0
);
CREATE INDEX outcomes_by_nonce ON outcomes (nonce);
CREATE INDEX events_by_time ON events (kind, at);

-- Where the pacing of a campaign stood at an hour of the day, to start from the next day.
CREATE TABLE pacing (
    campaign TEXT NOT NULL,
    hour     BIGINT NOT NULL,
    dual     DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (campaign, hour)
);

-- Why decisions ended without an ad, counted.
CREATE TABLE no_fill (
    day       TEXT NOT NULL,
    reason    TEXT NOT NULL,
    decisions BIGINT NOT NULL,
    PRIMARY KEY (day, reason)
);

-- What an advertiser told us happened after a click.
CREATE TABLE conversions (
    advertiser   TEXT NOT NULL REFERENCES advertisers (id),
    order_id     TEXT NOT NULL,
    at           BIGINT NOT NULL,
    value_micros BIGINT NOT NULL,
    nonce        TEXT NOT NULL, -- the click or impression it is put down to, empty: none
    attribution  TEXT NOT NULL, -- click | view | none
    PRIMARY KEY (advertiser, order_id)
);
CREATE INDEX conversions_by_nonce ON conversions (nonce);

ALTER TABLE advertisers ADD COLUMN postback_key TEXT; -- 32 bytes, hexadecimal: signs conversions, NULL: none are taken

DROP TABLE reservations;
DROP TABLE daily_spend;
