//! Writing bookings and what was decided about them.

use bowerbird_auction::Micros;
use sqlx::AssertSqlSafe;

use super::columns;
use crate::AdsError;
use crate::booking::{Ad, AdGroup, Booking, joined};
use crate::policy::Verdict;
use crate::store::Tx;
use crate::targeting::{FrequencyCap, Targeting};

/// Writes a booking over what is stored of it, if anything is: one revision more. An ad gets `version` and `verdict`;
/// its words are written by [`write_words`].
pub(crate) async fn write(
    tx: &mut Tx<'_>,
    booking: &Booking,
    version: i64,
    verdict: &Verdict,
) -> Result<(), AdsError> {
    let level = booking.level();
    let (table, columns) = (level.table(), columns(level));
    let value = |(at, column): (usize, &&str)| match *column {
        // Bound as text: the Any driver gives a missing number with a point the wrong type.
        "semantic_threshold" => format!("CAST(${} AS DOUBLE PRECISION)", at + 1),
        _ => format!("${}", at + 1),
    };
    let values: Vec<String> = columns.iter().enumerate().map(value).collect();
    let updates: Vec<String> =
        columns[1..].iter().map(|column| format!("{column} = excluded.{column}")).collect();
    let statement = format!(
        "INSERT INTO {table} ({}) VALUES ({}) ON CONFLICT (id) DO UPDATE SET {}, removed = FALSE, \
         revision = {table}.revision + 1",
        columns.join(", "),
        values.join(", "),
        updates.join(", ")
    );
    let status = |enabled: bool| if enabled { "enabled" } else { "paused" };
    let json = |list: &[String]| serde_json::to_string(list).unwrap_or_else(|_| "[]".into());
    let micros = |amount: Option<Micros>| amount.map(|amount| amount.0);
    let query = sqlx::query(AssertSqlSafe(statement)).bind(booking.id().to_owned());
    let cap =
        |cap: Option<FrequencyCap>| (cap.map(|c| i64::from(c.impressions)), cap.map(|c| i64::from(c.hours)));
    let query = match booking {
        Booking::Advertiser(a) => query
            .bind(a.name.clone())
            .bind(a.paid_by.clone())
            .bind(status(a.enabled))
            .bind(a.category.map(i64::from))
            .bind(micros(a.balance))
            .bind(json(&a.blocked_terms))
            .bind(json(&a.blocked_authors))
            .bind(cap(a.cap).0)
            .bind(cap(a.cap).1),
        Booking::Campaign(c) => query
            .bind(c.advertiser.clone())
            .bind(c.name.clone())
            .bind(c.daily_budget.0)
            .bind(micros(c.lifetime_budget))
            .bind(c.currency.clone())
            .bind(c.starts.clone())
            .bind(c.ends.clone())
            .bind(status(c.enabled))
            .bind(c.bidding.as_str())
            .bind(micros(c.target_cpa))
            .bind(c.pacing.as_str())
            .bind(cap(c.cap).0)
            .bind(cap(c.cap).1),
        Booking::AdGroup(g) => {
            let Targeting {
                languages,
                countries,
                excluded_countries,
                devices,
                hours,
                topics,
                excluded_topics,
            } = &g.targeting;
            query
                .bind(g.campaign.clone())
                .bind(g.name.clone())
                .bind(status(g.enabled))
                .bind(g.bid.0)
                .bind(g.semantic)
                .bind(g.semantic_threshold.map(|least| least.to_string()))
                .bind(joined(languages))
                .bind(joined(countries))
                .bind(joined(excluded_countries))
                .bind(joined(devices.iter().map(|device| device.as_str())))
                .bind(joined(hours.iter()))
                .bind(joined(topics))
                .bind(joined(excluded_topics))
        }
        Booking::Ad(ad) => query
            .bind(ad.group.clone())
            .bind(status(ad.enabled))
            .bind(version)
            .bind(verdict.review.as_str())
            .bind(verdict.topic.to_string())
            .bind(verdict.reason.clone())
            .bind(cap(ad.cap).0)
            .bind(cap(ad.cap).1),
    };
    query.execute(&mut **tx).await?;
    if let Booking::AdGroup(group) = booking {
        write_keywords(tx, group).await?;
    }
    Ok(())
}

/// Keywords have no ids: the list is replaced.
async fn write_keywords(tx: &mut Tx<'_>, group: &AdGroup) -> Result<(), AdsError> {
    sqlx::query("DELETE FROM keywords WHERE ad_group = $1").bind(group.id.clone()).execute(&mut **tx).await?;
    for keyword in &group.keywords {
        sqlx::query("INSERT INTO keywords (ad_group, text, match_type, negative) VALUES ($1, $2, $3, $4)")
            .bind(group.id.clone())
            .bind(keyword.text.clone())
            .bind(keyword.match_type.as_str())
            .bind(keyword.negative)
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

/// Writes a new version of what an ad says.
pub(crate) async fn write_words(tx: &mut Tx<'_>, ad: &Ad, version: i64) -> Result<(), AdsError> {
    let json = |list: serde_json::Result<String>| list.unwrap_or_else(|_| "[]".into());
    sqlx::query(
        "INSERT INTO ad_versions (ad, version, headline, text, landing_url, display_url, facts, assets) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(ad.id.clone())
    .bind(version)
    .bind(ad.words.headline.clone())
    .bind(ad.words.text.clone())
    .bind(ad.words.landing_url.clone())
    .bind(ad.words.display_url.clone())
    .bind(json(serde_json::to_string(&ad.words.facts)))
    .bind(json(serde_json::to_string(&ad.words.assets)))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Keeps a decision about the current version of an ad, with who and when.
pub(crate) async fn record_review(
    tx: &mut Tx<'_>,
    ad: &str,
    verdict: &Verdict,
    reviewer: &str,
    at_ms: i64,
) -> Result<(), AdsError> {
    sqlx::query(
        "INSERT INTO ad_reviews (ad, revision, version, review, topic, reason, reviewer, at) \
         SELECT id, revision, version, $2, $3, $4, $5, $6 FROM ads WHERE id = $1",
    )
    .bind(ad.to_owned())
    .bind(verdict.review.as_str())
    .bind(verdict.topic.to_string())
    .bind(verdict.reason.clone())
    .bind(reviewer.to_owned())
    .bind(at_ms)
    .execute(&mut **tx)
    .await?;
    Ok(())
}
