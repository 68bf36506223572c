//! A checked document into the tables.

use std::collections::HashMap;

use super::document::{Advertiser, count};
use super::{ImportProblems, ImportReport};
use crate::AdsError;
use crate::store::{Connection, Tx};

/// A document that fits what is stored, with the version each ad will have.
pub(crate) struct Planned {
    advertisers: Vec<Advertiser>,
    versions: HashMap<String, Version>,
}

#[derive(Clone, Copy)]
struct Version {
    number: i64,
    new: bool,
}

/// An ad version that has to be embedded.
pub(crate) struct NewVersion {
    pub ad: String,
    pub version: i64,
    pub passage: String,
}

impl Planned {
    /// Ads whose text is new.
    pub fn new_versions(&self) -> Vec<NewVersion> {
        let ads =
            self.advertisers.iter().flat_map(|a| &a.campaigns).flat_map(|c| &c.groups).flat_map(|g| &g.ads);
        ads.filter_map(|ad| {
            let version = self.versions.get(&ad.id).filter(|version| version.new)?;
            let passage = crate::index::passage(&ad.headline, &ad.text);
            Some(NewVersion { ad: ad.id.clone(), version: version.number, passage })
        })
        .collect()
    }

    /// What the import does.
    pub fn report(&self) -> ImportReport {
        let new_versions = self.versions.values().filter(|version| version.new).count();
        ImportReport { new_versions, ..count(&self.advertisers) }
    }
}

type StoredAd = (String, String, i64, String, String, String, String);

/// Compares `advertisers` with what is stored: an ad whose words or landing page changed gets its next version, and
/// an id that already hangs under another parent is a problem.
pub(crate) async fn plan(
    db: &mut Connection,
    advertisers: Vec<Advertiser>,
) -> Result<Result<Planned, ImportProblems>, AdsError> {
    let pairs = |rows: Vec<(String, String)>| rows.into_iter().collect::<HashMap<_, _>>();
    let campaigns = pairs(sqlx::query_as("SELECT id, advertiser FROM campaigns").fetch_all(&mut *db).await?);
    let groups = pairs(sqlx::query_as("SELECT id, campaign FROM ad_groups").fetch_all(&mut *db).await?);
    let stored: Vec<StoredAd> = sqlx::query_as(
        "SELECT a.id, a.ad_group, a.version, v.headline, v.text, v.landing_url, v.display_url \
         FROM ads a JOIN ad_versions v ON v.ad = a.id AND v.version = a.version",
    )
    .fetch_all(&mut *db)
    .await?;
    let stored: HashMap<&str, &StoredAd> = stored.iter().map(|row| (row.0.as_str(), row)).collect();

    let mut problems = ImportProblems::default();
    let mut versions = HashMap::new();
    let mut same_parent = |path: &str, id: &str, kind: &str, stored: Option<&str>, parent: &str| {
        if let Some(other) = stored.filter(|other| *other != parent) {
            let message = format!("already belongs to {kind} {other}: give it another id");
            problems.push(format!("{path}.id"), id, message);
        }
    };
    for advertiser in &advertisers {
        for campaign in &advertiser.campaigns {
            let owner = campaigns.get(&campaign.id).map(String::as_str);
            same_parent(&campaign.path, &campaign.id, "advertiser", owner, &advertiser.id);
            for group in &campaign.groups {
                let owner = groups.get(&group.id).map(String::as_str);
                same_parent(&group.path, &group.id, "campaign", owner, &campaign.id);
                for ad in &group.ads {
                    let row = stored.get(ad.id.as_str());
                    same_parent(&ad.path, &ad.id, "ad group", row.map(|row| row.1.as_str()), &group.id);
                    let words = (&ad.headline, &ad.text, &ad.landing_url, &ad.display_url);
                    let version = match row {
                        None => Version { number: 1, new: true },
                        Some(row) if (&row.3, &row.4, &row.5, &row.6) == words => {
                            Version { number: row.2, new: false }
                        }
                        Some(row) => Version { number: row.2 + 1, new: true },
                    };
                    versions.insert(ad.id.clone(), version);
                }
            }
        }
    }
    Ok(problems.or(Planned { advertisers, versions }))
}

/// Writes `planned` within `tx`. What the document does not name stays as it is.
pub(crate) async fn write(tx: &mut Tx<'_>, planned: &Planned) -> Result<(), AdsError> {
    for advertiser in &planned.advertisers {
        sqlx::query(
            "INSERT INTO advertisers (id, name, paid_by) VALUES ($1, $2, $3) \
             ON CONFLICT (id) DO UPDATE SET name = excluded.name, paid_by = excluded.paid_by",
        )
        .bind(&advertiser.id)
        .bind(&advertiser.name)
        .bind(&advertiser.paid_by)
        .execute(&mut **tx)
        .await?;
        for campaign in &advertiser.campaigns {
            sqlx::query(
                "INSERT INTO campaigns (id, advertiser, name, daily_budget_micros, currency, starts, ends, status) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
                 ON CONFLICT (id) DO UPDATE SET name = excluded.name, \
                 daily_budget_micros = excluded.daily_budget_micros, currency = excluded.currency, \
                 starts = excluded.starts, ends = excluded.ends, status = excluded.status",
            )
            .bind(&campaign.id)
            .bind(&advertiser.id)
            .bind(&campaign.name)
            .bind(campaign.daily_budget_micros)
            .bind(&campaign.currency)
            .bind(campaign.starts.as_deref())
            .bind(campaign.ends.as_deref())
            .bind(campaign.status)
            .execute(&mut **tx)
            .await?;
            for group in &campaign.groups {
                write_group(tx, &campaign.id, group, planned).await?;
            }
        }
    }
    Ok(())
}

async fn write_group(
    tx: &mut Tx<'_>,
    campaign: &str,
    group: &super::document::Group,
    planned: &Planned,
) -> Result<(), AdsError> {
    let joined =
        |codes: &std::collections::BTreeSet<String>| codes.iter().cloned().collect::<Vec<_>>().join(",");
    sqlx::query(
        "INSERT INTO ad_groups (id, campaign, bid_micros, semantic, languages, countries) \
         VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (id) DO UPDATE SET bid_micros = excluded.bid_micros, semantic = excluded.semantic, \
         languages = excluded.languages, countries = excluded.countries",
    )
    .bind(&group.id)
    .bind(campaign)
    .bind(group.bid_micros)
    .bind(group.semantic)
    .bind(joined(&group.languages))
    .bind(joined(&group.countries))
    .execute(&mut **tx)
    .await?;
    // Keywords have no ids: the list of a named group is replaced.
    sqlx::query("DELETE FROM keywords WHERE ad_group = $1").bind(&group.id).execute(&mut **tx).await?;
    for keyword in &group.keywords {
        sqlx::query("INSERT INTO keywords (ad_group, text, match_type, negative) VALUES ($1, $2, $3, $4)")
            .bind(&group.id)
            .bind(&keyword.text)
            .bind(keyword.match_type.as_str())
            .bind(keyword.negative)
            .execute(&mut **tx)
            .await?;
    }
    for ad in &group.ads {
        let Some(version) = planned.versions.get(&ad.id) else {
            return Err(AdsError::Damaged { what: format!("ad {} was not planned", ad.id) });
        };
        sqlx::query(
            "INSERT INTO ads (id, ad_group, status, version) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (id) DO UPDATE SET status = excluded.status, version = excluded.version",
        )
        .bind(&ad.id)
        .bind(&group.id)
        .bind(ad.status)
        .bind(version.number)
        .execute(&mut **tx)
        .await?;
        if version.new {
            sqlx::query(
                "INSERT INTO ad_versions (ad, version, headline, text, landing_url, display_url) \
                 VALUES ($1, $2, $3, $4, $5, $6)",
            )
            .bind(&ad.id)
            .bind(version.number)
            .bind(&ad.headline)
            .bind(&ad.text)
            .bind(&ad.landing_url)
            .bind(&ad.display_url)
            .execute(&mut **tx)
            .await?;
        }
    }
    Ok(())
}
