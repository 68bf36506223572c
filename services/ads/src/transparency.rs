//! What the public may know of every ad that was shown: who is behind it, what it said, when, to how many, and whom it
//! was meant for. Readers are not in it, nor what they searched for, nor what anybody paid.
//!
//! Source of the fields: Regulation (EU) 2022/2065 (DSA), article 39(2).

use std::collections::{BTreeSet, HashMap};

use serde::Serialize;
use sqlx::any::AnyArguments;
use sqlx::query::QueryAs;
use sqlx::{Any, AnyConnection, AssertSqlSafe};

use crate::AdsError;
use crate::engine::Engine;
use crate::sql;

/// Ads of one page.
pub const TRANSPARENCY_PAGE: usize = 200;
/// Generated texts that are told of an ad.
const MAX_GENERATED: usize = 20;
/// Counts are multiples of it.
const ROUNDING: i64 = 50;

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
    /// Texts that a model wrote from the advertiser's facts and that stood in its place, at most twenty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub generated_texts: Vec<String>,
    /// Valid impressions, rounded down to fifties: a count of a few would speak of persons.
    pub impressions_at_least: i64,
    /// Whom it is meant for.
    pub targeting: PublicTargeting,
}

type AdRow = (String, String, String, String, String, String, String, String, i64, String);
type GroupRow = (String, String, String, String, String, String, String, i64);

impl Engine {
    /// The ads after `after` (all when empty) that were shown and are still in the log of served slots, by id, one page.
    pub(crate) async fn shown_ads(&self, after: &str) -> Result<Vec<PublicAd>, AdsError> {
        let mut reader = self.store.begin_read().await?;
        let statement = format!(
            "SELECT s.ad, v.name, v.paid_by, w.headline, w.text, w.landing_url, MIN(s.day), MAX(s.day), \
             CAST(COALESCE(SUM(CASE WHEN i.status <> 'invalid' THEN 1 ELSE 0 END), 0) AS BIGINT), d.ad_group \
             FROM served s JOIN ads d ON d.id = s.ad JOIN ad_versions w ON w.ad = d.id AND w.version = d.version \
             JOIN advertisers v ON v.id = s.advertiser \
             LEFT JOIN events i ON i.nonce = s.nonce AND i.kind = 'impression' \
             WHERE s.ad > $1 GROUP BY s.ad, v.name, v.paid_by, w.headline, w.text, w.landing_url, d.ad_group \
             ORDER BY s.ad LIMIT {TRANSPARENCY_PAGE}"
        );
        let rows: Vec<AdRow> =
            sqlx::query_as(AssertSqlSafe(statement)).bind(after.to_owned()).fetch_all(&mut *reader).await?;
        let ads: Vec<&String> = rows.iter().map(|row| &row.0).collect();
        let mut generated = generated_texts(&mut reader, &ads).await?;
        let groups: BTreeSet<&String> = rows.iter().map(|row| &row.9).collect();
        let targeting = targeting(&mut reader, &groups.into_iter().collect::<Vec<_>>()).await?;
        reader.rollback().await?;
        let public = rows.into_iter().map(
            |(ad, advertiser, paid_by, headline, text, landing_url, first, last, impressions, group)| {
                PublicAd {
                    generated_texts: generated.remove(&ad).unwrap_or_default(),
                    ad,
                    advertiser,
                    paid_by,
                    headline,
                    text,
                    landing_url,
                    first_shown: first,
                    last_shown: last,
                    impressions_at_least: impressions / ROUNDING * ROUNDING,
                    targeting: targeting.get(&group).cloned().unwrap_or_default(),
                }
            },
        );
        Ok(public.collect())
    }
}

/// What models wrote for these ads and readers saw, by ad.
async fn generated_texts(
    db: &mut AnyConnection,
    ads: &[&String],
) -> Result<HashMap<String, Vec<String>>, AdsError> {
    let mut texts: HashMap<String, Vec<String>> = HashMap::new();
    if ads.is_empty() {
        return Ok(texts);
    }
    let statement = format!(
        "SELECT DISTINCT w.ad, w.text FROM ad_wordings w JOIN served s ON s.wording = w.id \
         WHERE w.ad IN ({}) ORDER BY w.ad, w.text",
        sql::places(1, ads.len())
    );
    for (ad, text) in
        strings(sqlx::query_as::<_, (String, String)>(AssertSqlSafe(statement)), ads).fetch_all(db).await?
    {
        let texts = texts.entry(ad).or_default();
        if texts.len() < MAX_GENERATED {
            texts.push(text);
        }
    }
    Ok(texts)
}

/// Whom these ad groups are meant for, by group.
async fn targeting(
    db: &mut AnyConnection,
    groups: &[&String],
) -> Result<HashMap<String, PublicTargeting>, AdsError> {
    let mut targeting: HashMap<String, PublicTargeting> = HashMap::new();
    if groups.is_empty() {
        return Ok(targeting);
    }
    let places = sql::places(1, groups.len());
    let statement = format!(
        "SELECT id, languages, countries, excluded_countries, devices, topics, excluded_topics, \
         CAST(CAST(semantic AS INTEGER) AS BIGINT) FROM ad_groups WHERE id IN ({places})"
    );
    let rows = strings(sqlx::query_as::<_, GroupRow>(AssertSqlSafe(statement)), groups);
    for (id, languages, countries, excluded_countries, devices, topics, excluded_topics, semantic) in
        rows.fetch_all(&mut *db).await?
    {
        let group = PublicTargeting {
            languages: listed(&languages),
            countries: listed(&countries),
            excluded_countries: listed(&excluded_countries),
            devices: listed(&devices),
            topics: listed(&topics),
            excluded_topics: listed(&excluded_topics),
            keywords: Vec::new(),
            like_meaning: semantic != 0,
        };
        targeting.insert(id, group);
    }
    let statement = format!(
        "SELECT ad_group, text, match_type, CAST(CAST(negative AS INTEGER) AS BIGINT) FROM keywords \
         WHERE ad_group IN ({places}) ORDER BY ad_group, negative, text, match_type"
    );
    let rows = strings(sqlx::query_as::<_, (String, String, String, i64)>(AssertSqlSafe(statement)), groups);
    for (group, text, match_type, negative) in rows.fetch_all(db).await? {
        if let Some(group) = targeting.get_mut(&group) {
            group.keywords.push(PublicKeyword { text, match_type, negative: negative != 0 });
        }
    }
    Ok(targeting)
}

/// The query with `values` in its places.
fn strings<'q, T>(
    query: QueryAs<'q, Any, T, AnyArguments>,
    values: &[&String],
) -> QueryAs<'q, Any, T, AnyArguments> {
    values.iter().fold(query, |query, value| query.bind((*value).clone()))
}

/// The parts of a list that is stored with commas.
fn listed(column: &str) -> Vec<String> {
    column.split(',').filter(|part| !part.is_empty()).map(str::to_owned).collect()
}
