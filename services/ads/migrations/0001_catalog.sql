-- What advertisers have booked. Plain SQL that SQLite and PostgreSQL both read: money in micros as BIGINT, dates as
-- 'YYYY-MM-DD' text (UTC), instants as Unix milliseconds, bytes as hexadecimal or base64 text.

CREATE TABLE advertisers (
    id      TEXT PRIMARY KEY,
    name    TEXT NOT NULL,
    paid_by TEXT NOT NULL
);

CREATE TABLE campaigns (
    id                  TEXT PRIMARY KEY,
    advertiser          TEXT NOT NULL REFERENCES advertisers (id),
    name                TEXT NOT NULL,
    daily_budget_micros BIGINT NOT NULL CHECK (daily_budget_micros > 0),
    currency            TEXT NOT NULL,
    starts              TEXT, -- first day, NULL: at once
    ends                TEXT, -- last day, NULL: never
    status              TEXT NOT NULL CHECK (status IN ('enabled', 'paused'))
);

CREATE TABLE ad_groups (
    id         TEXT PRIMARY KEY,
    campaign   TEXT NOT NULL REFERENCES campaigns (id),
    bid_micros BIGINT NOT NULL CHECK (bid_micros > 0),
    semantic   BOOLEAN NOT NULL,
    languages  TEXT NOT NULL, -- ISO 639-1 codes separated by commas; empty: every language
    countries  TEXT NOT NULL  -- ISO 3166-1 alpha-2 codes separated by commas; empty: every country
);
CREATE INDEX ad_groups_by_campaign ON ad_groups (campaign);

CREATE TABLE keywords (
    ad_group   TEXT NOT NULL REFERENCES ad_groups (id),
    text       TEXT NOT NULL,
    match_type TEXT NOT NULL CHECK (match_type IN ('exact', 'phrase', 'broad')),
    negative   BOOLEAN NOT NULL,
    PRIMARY KEY (ad_group, text, match_type, negative)
);

CREATE TABLE ads (
    id       TEXT PRIMARY KEY,
    ad_group TEXT NOT NULL REFERENCES ad_groups (id),
    status   TEXT NOT NULL CHECK (status IN ('enabled', 'paused')),
    version  BIGINT NOT NULL
);
CREATE INDEX ads_by_group ON ads (ad_group);

-- Every text an ad ever had: a token that is out in the world names the version it was signed for.
CREATE TABLE ad_versions (
    ad          TEXT NOT NULL REFERENCES ads (id),
    version     BIGINT NOT NULL,
    headline    TEXT NOT NULL,
    text        TEXT NOT NULL,
    landing_url TEXT NOT NULL,
    display_url TEXT NOT NULL,
    PRIMARY KEY (ad, version)
);

-- A cache: may be emptied at any time.
CREATE TABLE ad_embeddings (
    ad      TEXT NOT NULL,
    version BIGINT NOT NULL,
    space   TEXT NOT NULL, -- fingerprint of the embedding space
    vector  TEXT NOT NULL, -- base64 of little-endian 32-bit floats
    PRIMARY KEY (ad, version, space)
);
