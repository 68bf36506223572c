-- Texts that a model wrote from advertisers' facts, and which of them a reader saw.

-- One row a text for one query; shown only while the ad has this version.
CREATE TABLE ad_wordings (
    id          TEXT PRIMARY KEY, -- keyed hash of ad, version, query and text
    ad          TEXT NOT NULL REFERENCES ads (id),
    version     BIGINT NOT NULL,
    query       TEXT NOT NULL, -- as in served; empty when queries are not kept, or no longer
    text        TEXT NOT NULL,
    fact        BIGINT NOT NULL, -- place in the facts of the version, from 0
    quote       TEXT NOT NULL, -- the part of that fact which supports the text
    probability DOUBLE PRECISION NOT NULL, -- that it does
    model       TEXT NOT NULL,
    prompt      TEXT NOT NULL, -- version of it
    at          BIGINT NOT NULL
);
CREATE INDEX ad_wordings_by_query ON ad_wordings (ad, version, query);
CREATE INDEX ad_wordings_by_time ON ad_wordings (at);

ALTER TABLE served ADD COLUMN wording TEXT NOT NULL DEFAULT ''; -- id of the text shown; empty: the advertiser's own
