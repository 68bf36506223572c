//! Bookings in the tables: reading here, writing beside.

mod write;

use std::collections::HashMap;

use bowerbird_auction::Micros;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};

use crate::booking::{Ad, AdGroup, Advertiser, Booking, Campaign, Level, Pacing, Review, Words, split};
use crate::keywords::Keyword;
use crate::policy::Verdict;
use crate::store::{Connection, Tx};
use crate::targeting::{Bidding, Device, FrequencyCap, Hours, Targeting};
use crate::{AdsError, MatchType};

pub(crate) use write::{record_review, write, write_words};

/// A booking as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stored {
    pub booking: Booking,
    pub revision: i64,
    pub removed: bool,
    /// Of an ad: its current version and what was decided about it.
    pub version: i64,
    pub verdict: Verdict,
}

/// Which bookings of a level.
#[derive(Clone, Copy)]
pub(crate) enum Which<'a> {
    /// All, removed ones included.
    All,
    /// The one of this id, if there is one.
    One(&'a str),
    /// At most `limit` after the id `after`, removed ones left out, of one parent or of all.
    Page { parent: Option<&'a str>, after: &'a str, limit: i64 },
}

/// Columns of each level that are written, `id` and parent first.
fn columns(level: Level) -> &'static [&'static str] {
    match level {
        Level::Advertiser => &[
            "id",
            "name",
            "paid_by",
            "status",
            "category",
            "balance_micros",
            "blocked_terms",
            "blocked_authors",
            "cap_impressions",
            "cap_hours",
        ],
        Level::Campaign => &[
            "id",
            "advertiser",
            "name",
            "daily_budget_micros",
            "lifetime_budget_micros",
            "currency",
            "starts",
            "ends",
            "status",
            "bidding",
            "target_cpa_micros",
            "pacing",
            "cap_impressions",
            "cap_hours",
        ],
        Level::AdGroup => &[
            "id",
            "campaign",
            "name",
            "status",
            "bid_micros",
            "semantic",
            "semantic_threshold",
            "languages",
            "countries",
            "excluded_countries",
            "devices",
            "hours",
            "topics",
            "excluded_topics",
        ],
        Level::Ad => &[
            "id",
            "ad_group",
            "status",
            "version",
            "review",
            "review_topic",
            "review_reason",
            "cap_impressions",
            "cap_hours",
        ],
    }
}

/// The bookings of `level`, in the order of ids.
pub(crate) async fn load(
    db: &mut Connection,
    level: Level,
    which: Which<'_>,
) -> Result<Vec<Stored>, AdsError> {
    // Booleans are read as numbers: SQLite's have no type of their own.
    let mut wanted: Vec<String> = vec!["CAST(t.removed AS INTEGER) AS removed".into(), "t.revision".into()];
    wanted.extend(columns(level).iter().map(|column| match *column {
        "semantic" => "CAST(t.semantic AS INTEGER) AS semantic".into(),
        column => format!("t.{column}"),
    }));
    let mut from = format!("{} t", level.table());
    if level == Level::Ad {
        wanted.extend(
            ["headline", "text", "landing_url", "display_url", "facts", "assets"].map(|c| format!("v.{c}")),
        );
        from.push_str(" JOIN ad_versions v ON v.ad = t.id AND v.version = t.version");
    }
    let parent = level.parent().map_or("id", Level::as_str);
    let rest = match which {
        Which::All => String::new(),
        Which::One(_) => " WHERE t.id = $1".into(),
        Which::Page { parent: None, .. } => {
            " WHERE t.removed = FALSE AND t.id > $1 ORDER BY t.id LIMIT $2".into()
        }
        Which::Page { parent: Some(_), .. } => {
            format!(" WHERE t.removed = FALSE AND t.id > $1 AND t.{parent} = $3 ORDER BY t.id LIMIT $2")
        }
    };
    let statement = format!("SELECT {} FROM {from}{rest}", wanted.join(", "));
    let mut query = sqlx::query(AssertSqlSafe(statement));
    match which {
        Which::All => {}
        Which::One(id) => query = query.bind(id.to_owned()),
        Which::Page { parent, after, limit } => {
            query = query.bind(after.to_owned()).bind(limit);
            if let Some(parent) = parent {
                query = query.bind(parent.to_owned());
            }
        }
    }
    let rows = query.fetch_all(&mut *db).await?;
    let mut keywords =
        if level == Level::AdGroup { keywords(db, which, &rows).await? } else { HashMap::new() };
    let mut stored: Vec<Stored> =
        rows.iter().map(|row| read(row, level, &mut keywords)).collect::<Result<_, _>>()?;
    // The order of a page is the database's, so that the next page begins where it ends.
    if matches!(which, Which::All) {
        stored.sort_by(|a, b| a.booking.id().cmp(b.booking.id()));
    }
    Ok(stored)
}

/// The booking of that id.
pub(crate) async fn find(db: &mut Connection, level: Level, id: &str) -> Result<Option<Stored>, AdsError> {
    Ok(load(db, level, Which::One(id)).await?.pop())
}

/// Keywords by ad group, each list in order.
async fn keywords(
    db: &mut Connection,
    which: Which<'_>,
    groups: &[AnyRow],
) -> Result<HashMap<String, Vec<Keyword>>, AdsError> {
    let mut statement =
        "SELECT ad_group, text, match_type, CAST(negative AS INTEGER) FROM keywords".to_owned();
    let ids: Vec<String> = groups.iter().map(|row| row.try_get("id")).collect::<Result<_, _>>()?;
    let some = !matches!(which, Which::All);
    if some {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let places: Vec<String> = (1..=ids.len()).map(|place| format!("${place}")).collect();
        statement = format!("{statement} WHERE ad_group IN ({})", places.join(", "));
    }
    let mut query = sqlx::query_as(AssertSqlSafe(statement));
    for id in ids.into_iter().filter(|_| some) {
        query = query.bind(id);
    }
    let rows: Vec<(String, String, String, i64)> = query.fetch_all(db).await?;
    let mut by_group: HashMap<String, Vec<Keyword>> = HashMap::new();
    for (group, text, match_type, negative) in rows {
        let match_type =
            MatchType::parse(&match_type).ok_or_else(|| damaged("ad group", &group, "keyword"))?;
        by_group.entry(group).or_default().push(Keyword { text, match_type, negative: negative != 0 });
    }
    for list in by_group.values_mut() {
        list.sort();
    }
    Ok(by_group)
}

fn read(
    row: &AnyRow,
    level: Level,
    keywords: &mut HashMap<String, Vec<Keyword>>,
) -> Result<Stored, AdsError> {
    let id: String = row.try_get("id")?;
    let wrong = |what: &str| damaged(level.words(), &id, what);
    let number = |name: &str| row.try_get::<i64, _>(name);
    let text = |name: &str| row.try_get::<String, _>(name);
    let micros = |name: &str| Ok::<_, sqlx::Error>(row.try_get::<Option<i64>, _>(name)?.map(Micros));
    let list = |name: &str| serde_json::from_str::<Vec<String>>(&text(name)?).map_err(|_| wrong(name));
    let removed = number("removed")? != 0;
    let revision = number("revision")?;
    let enabled = text("status")? == "enabled";
    let cap = || -> Result<Option<FrequencyCap>, AdsError> {
        let impressions: Option<i64> = row.try_get("cap_impressions")?;
        let hours: Option<i64> = row.try_get("cap_hours")?;
        let (Some(impressions), Some(hours)) = (impressions, hours) else { return Ok(None) };
        let bad = |_| wrong("frequency cap");
        let (impressions, hours) =
            (u8::try_from(impressions).map_err(bad)?, u16::try_from(hours).map_err(bad)?);
        Ok(Some(FrequencyCap { impressions, hours }))
    };
    let (mut version, mut verdict) = (0, Verdict::default());
    let booking = match level {
        Level::Advertiser => Booking::Advertiser(Advertiser {
            name: text("name")?,
            paid_by: text("paid_by")?,
            enabled,
            category: row.try_get::<Option<i64>, _>("category")?.and_then(|id| u32::try_from(id).ok()),
            balance: micros("balance_micros")?,
            blocked_terms: list("blocked_terms")?,
            blocked_authors: list("blocked_authors")?,
            cap: cap()?,
            id,
        }),
        Level::Campaign => Booking::Campaign(Campaign {
            advertiser: text("advertiser")?,
            name: text("name")?,
            daily_budget: Micros(number("daily_budget_micros")?),
            lifetime_budget: micros("lifetime_budget_micros")?,
            currency: text("currency")?,
            starts: row.try_get("starts")?,
            ends: row.try_get("ends")?,
            enabled,
            bidding: Bidding::parse(&text("bidding")?).ok_or_else(|| wrong("bidding"))?,
            target_cpa: micros("target_cpa_micros")?,
            pacing: Pacing::parse(&text("pacing")?).ok_or_else(|| wrong("pacing"))?,
            cap: cap()?,
            id,
        }),
        Level::AdGroup => {
            let codes = |name: &str| split::<String>(&text(name)?).ok_or_else(|| wrong(name));
            let numbers = |name: &str| split::<u16>(&text(name)?).ok_or_else(|| wrong(name));
            let mut hours = Hours::default();
            for hour in numbers("hours")? {
                hours.insert(u8::try_from(hour).map_err(|_| wrong("hours"))?);
            }
            let device = |name: &String| Device::parse(name).ok_or_else(|| wrong("devices"));
            let targeting = Targeting {
                languages: codes("languages")?,
                countries: codes("countries")?,
                excluded_countries: codes("excluded_countries")?,
                devices: codes("devices")?.iter().map(device).collect::<Result<_, _>>()?,
                hours,
                topics: numbers("topics")?,
                excluded_topics: numbers("excluded_topics")?,
            };
            Booking::AdGroup(AdGroup {
                campaign: text("campaign")?,
                name: text("name")?,
                enabled,
                bid: Micros(number("bid_micros")?),
                semantic: number("semantic")? != 0,
                semantic_threshold: row.try_get("semantic_threshold")?,
                targeting,
                keywords: keywords.remove(&id).unwrap_or_default(),
                id,
            })
        }
        Level::Ad => {
            version = number("version")?;
            verdict = Verdict {
                review: Review::parse(&text("review")?).ok_or_else(|| wrong("review"))?,
                topic: text("review_topic")?.into(),
                reason: text("review_reason")?,
            };
            let words = Words {
                headline: text("headline")?,
                text: text("text")?,
                landing_url: text("landing_url")?,
                display_url: text("display_url")?,
                facts: list("facts")?,
                assets: serde_json::from_str(&text("assets")?).map_err(|_| wrong("assets"))?,
            };
            Booking::Ad(Ad { group: text("ad_group")?, enabled, cap: cap()?, words, id })
        }
    };
    Ok(Stored { booking, revision, removed, version, verdict })
}

fn damaged(kind: &str, id: &str, what: &str) -> AdsError {
    AdsError::Damaged { what: format!("{what} of {kind} {id}") }
}

/// How often what is booked has changed.
pub(crate) async fn changes(db: &mut Connection) -> Result<i64, AdsError> {
    Ok(sqlx::query_scalar("SELECT changes FROM catalog_state WHERE id = 1").fetch_one(db).await?)
}

/// Tells every process that something has.
pub(crate) async fn note_change(tx: &mut Tx<'_>) -> Result<(), AdsError> {
    sqlx::query("UPDATE catalog_state SET changes = changes + 1 WHERE id = 1").execute(&mut **tx).await?;
    Ok(())
}
