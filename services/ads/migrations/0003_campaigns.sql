-- What a booking can say beyond a daily budget and a bid per click.

ALTER TABLE advertisers ADD COLUMN status TEXT NOT NULL DEFAULT 'enabled'; -- enabled | paused
ALTER TABLE advertisers ADD COLUMN removed BOOLEAN NOT NULL DEFAULT FALSE; -- a row that money refers to is never deleted
ALTER TABLE advertisers ADD COLUMN revision BIGINT NOT NULL DEFAULT 1;     -- rises with every change
ALTER TABLE advertisers ADD COLUMN category BIGINT;                        -- IAB Ad Product Taxonomy 2.0
ALTER TABLE advertisers ADD COLUMN balance_micros BIGINT;                  -- most ever charged to the account, NULL: no limit
ALTER TABLE advertisers ADD COLUMN blocked_terms TEXT NOT NULL DEFAULT '[]';   -- JSON list: no ad beside a post with one of them
ALTER TABLE advertisers ADD COLUMN blocked_authors TEXT NOT NULL DEFAULT '[]'; -- JSON list: no ad beside a post by one of them
ALTER TABLE advertisers ADD COLUMN cap_impressions BIGINT;                 -- frequency cap of the account, both or neither
ALTER TABLE advertisers ADD COLUMN cap_hours BIGINT;

ALTER TABLE campaigns ADD COLUMN removed BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE campaigns ADD COLUMN revision BIGINT NOT NULL DEFAULT 1;
ALTER TABLE campaigns ADD COLUMN lifetime_budget_micros BIGINT;            -- NULL: no limit but the daily one
ALTER TABLE campaigns ADD COLUMN bidding TEXT NOT NULL DEFAULT 'manual_cpc'; -- manual_cpc | cpm | maximise_clicks | target_cpa
ALTER TABLE campaigns ADD COLUMN target_cpa_micros BIGINT;                 -- with target_cpa
ALTER TABLE campaigns ADD COLUMN pacing TEXT NOT NULL DEFAULT 'even';      -- even | asap
ALTER TABLE campaigns ADD COLUMN cap_impressions BIGINT;
ALTER TABLE campaigns ADD COLUMN cap_hours BIGINT;

ALTER TABLE ad_groups ADD COLUMN name TEXT NOT NULL DEFAULT '';
ALTER TABLE ad_groups ADD COLUMN status TEXT NOT NULL DEFAULT 'enabled';   -- enabled | paused
ALTER TABLE ad_groups ADD COLUMN removed BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE ad_groups ADD COLUMN revision BIGINT NOT NULL DEFAULT 1;
ALTER TABLE ad_groups ADD COLUMN semantic_threshold DOUBLE PRECISION;      -- least cosine, NULL: as configured
ALTER TABLE ad_groups ADD COLUMN excluded_countries TEXT NOT NULL DEFAULT ''; -- like countries
ALTER TABLE ad_groups ADD COLUMN devices TEXT NOT NULL DEFAULT '';         -- desktop | phone | tablet | tv, separated by commas
ALTER TABLE ad_groups ADD COLUMN hours TEXT NOT NULL DEFAULT '';           -- hours of the week from Monday 0:00 UTC, separated by commas
ALTER TABLE ad_groups ADD COLUMN topics TEXT NOT NULL DEFAULT '';          -- ids of the IAB Content Taxonomy 3.1, separated by commas
ALTER TABLE ad_groups ADD COLUMN excluded_topics TEXT NOT NULL DEFAULT '';

ALTER TABLE ads ADD COLUMN removed BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE ads ADD COLUMN revision BIGINT NOT NULL DEFAULT 1;
ALTER TABLE ads ADD COLUMN review TEXT NOT NULL DEFAULT 'approved';        -- approved | under_review | disapproved
ALTER TABLE ads ADD COLUMN review_reason TEXT NOT NULL DEFAULT '';
ALTER TABLE ads ADD COLUMN cap_impressions BIGINT;
ALTER TABLE ads ADD COLUMN cap_hours BIGINT;

ALTER TABLE ad_versions ADD COLUMN facts TEXT NOT NULL DEFAULT '[]';       -- JSON list of sentences the advertiser vouches for
ALTER TABLE ad_versions ADD COLUMN assets TEXT NOT NULL DEFAULT '[]';      -- JSON list of {kind, url, alt}
