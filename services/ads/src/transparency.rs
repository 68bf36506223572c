//! What the public may know of every ad that was shown: who is behind it, what it said, when, to how many, and whom it
//! was meant for. Readers are not in it, nor what they searched for, nor what anybody paid.
//!
//! Source of the fields: Regulation (EU) 2022/2065 (DSA), article 39(2).

use serde::Serialize;
use sqlx::AssertSqlSafe;

use crate::AdsError;
use crate::engine::Engine;

/// Ads of one page.
pub const TRANSPARENCY_PAGE: usize = 200;

/// Whom an ad was meant for. Empty lists mean everybody.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PublicTargeting {
    /// ISO 639-1 codes.
    pub languages: Vec<String>,
    /// ISO 3166-1 alpha-2 codes.
    pub countries: Vec<String>,
    /// Likewise, left out.
    pub excluded_countries: Vec<String>,
    /// `desktop`, `phone`, `tablet`, `tv`.
    pub devices: Vec<String>,
    /// Ids of the IAB Content Taxonomy 3.1.
    pub topics: Vec<String>,
    /// Likewise, left out.
    pub excluded_topics: Vec<String>,
    /// Keywords with their match type.
    pub keywords: Vec<PublicKeyword>,
    /// Whether searches of like meaning were included.
    pub like_meaning: bool,
}

/// A keyword of an ad group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PublicKeyword {
    /// Its words.
    pub text: String,
    /// `exact`, `phrase` or `broad`.
    pub match_type: String,
    /// Whether it kept the ad away.
    pub negative: bool,
}

/// An ad that was shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PublicAd {
    /// Its id; pages are in this order.
    pub ad: String,
    /// On whose behalf it was shown.
    pub advertiser: String,
    /// Who paid.
    pub paid_by: String,
    /// What it says now.
    pub headline: String,
    /// Likewise.
    pub text: String,
    /// Where it leads.
    pub landing_url: String,
    /// First UTC day it was shown.
    pub first_shown: String,
    /// Last UTC day.
    pub last_shown: String,
    /// Valid impressions.
    pub impressions: i64,
    /// Whom it is meant for.
    pub targeting: PublicTargeting,
}

type AdRow = (String, String, String, String, String, String, String, String, i64, String);
type GroupRow = (String, String, String, String, String, String, String, i64);

impl Engine {
    /// The ads after `after` (all when empty) that were shown and are still in the log of served slots, by id, one page.
    pub(crate) async fn shown_ads(&self, after: &str) -> Result<Vec<PublicAd>, AdsError> {
        let statement = format!(
            "SELECT s.ad, v.name, v.paid_by, w.headline, w.text, w.landing_url, MIN(s.day), MAX(s.day), \
             CAST(COALESCE(SUM(CASE WHEN i.status <> 'invalid' THEN 1 ELSE 0 END), 0) AS BIGINT), d.ad_group \
             FROM served s JOIN ads d ON d.id = s.ad JOIN ad_versions w ON w.ad = d.id AND w.version = d.version \
             JOIN advertisers v ON v.id = s.advertiser \
             LEFT JOIN events i ON i.nonce = s.nonce AND i.kind = 'impression' \
             WHERE s.ad > $1 GROUP BY s.ad, v.name, v.paid_by, w.headline, w.text, w.landing_url, d.ad_group \
             ORDER BY s.ad LIMIT {TRANSPARENCY_PAGE}"
        );
        let rows: Vec<AdRow> = sqlx::query_as(AssertSqlSafe(statement))
            .bind(after.to_owned())
            .fetch_all(&self.store.reader)
            .await?;
        let mut ads = Vec::with_capacity(rows.len());
        for (ad, advertiser, paid_by, headline, text, landing_url, first, last, impressions, group) in rows {
            let targeting = self.public_targeting(&group).await?;
            ads.push(PublicAd {
                ad,
                advertiser,
                paid_by,
                headline,
                text,
                landing_url,
                first_shown: first,
                last_shown: last,
                impressions,
                targeting,
            });
        }
        Ok(ads)
    }

    async fn public_targeting(&self, group: &str) -> Result<PublicTargeting, AdsError> {
        let found: Option<GroupRow> = sqlx::query_as(
            "SELECT id, languages, countries, excluded_countries, devices, topics, excluded_topics, \
             CAST(CAST(semantic AS INTEGER) AS BIGINT) FROM ad_groups WHERE id = $1",
        )
        .bind(group.to_owned())
        .fetch_optional(&self.store.reader)
        .await?;
        let Some((_, languages, countries, excluded_countries, devices, topics, excluded_topics, semantic)) =
            found
        else {
            return Ok(PublicTargeting::default());
        };
        let keywords: Vec<(String, String, i64)> = sqlx::query_as(
            "SELECT text, match_type, CAST(CAST(negative AS INTEGER) AS BIGINT) FROM keywords WHERE ad_group = $1 \
             ORDER BY negative, text, match_type",
        )
        .bind(group.to_owned())
        .fetch_all(&self.store.reader)
        .await?;
        let keyword =
            |(text, match_type, negative)| PublicKeyword { text, match_type, negative: negative != 0 };
        Ok(PublicTargeting {
            languages: listed(&languages),
            countries: listed(&countries),
            excluded_countries: listed(&excluded_countries),
            devices: listed(&devices),
            topics: listed(&topics),
            excluded_topics: listed(&excluded_topics),
            keywords: keywords.into_iter().map(keyword).collect(),
            like_meaning: semantic != 0,
        })
    }
}

/// The parts of a list that is stored with commas.
fn listed(column: &str) -> Vec<String> {
    column.split(',').filter(|part| !part.is_empty()).map(str::to_owned).collect()
}
