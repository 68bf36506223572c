//! The booked ads in memory: one immutable snapshot, replaced whole after an import.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bowerbird_auction::{Billing, Micros};
use bowerbird_models_api::{Embedding, EmbeddingSpace};

use crate::import::NewVersion;
use crate::keywords::{Keyword, KeywordIndex};
use crate::store::Connection;
use crate::money::Budget;
use crate::targeting::Bidding;
use crate::{AdsError, MatchType};

/// Who books.
pub(crate) struct Advertiser {
    pub id: String,
    pub name: String,
    pub paid_by: String,
    /// Most ever charged to the account; none: no limit.
    pub balance: Option<Micros>,
}

/// A budget and the time it may be spent in.
pub(crate) struct Campaign {
    pub id: String,
    pub advertiser: usize,
    pub daily_budget: Micros,
    /// Most charged over its whole life; none: no limit.
    pub lifetime_budget: Option<Micros>,
    pub bidding: Bidding,
    /// First day, `YYYY-MM-DD`.
    pub starts: Option<String>,
    /// Last day.
    pub ends: Option<String>,
    pub enabled: bool,
    /// Positions in [`AdIndex::groups`].
    pub groups: Vec<usize>,
}

/// A bid and whom it is for.
pub(crate) struct Group {
    pub id: String,
    pub campaign: usize,
    pub bid: Micros,
    pub semantic: bool,
    pub languages: Vec<String>,
    pub countries: Vec<String>,
    /// Positions in [`AdIndex::ads`].
    pub ads: Vec<usize>,
}

/// What is shown.
pub(crate) struct Ad {
    pub id: String,
    pub group: usize,
    pub version: u32,
    pub headline: String,
    pub text: String,
    pub landing_url: String,
    pub display_url: String,
    pub enabled: bool,
    /// What the models read.
    pub passage: Arc<str>,
    pub embedding: Embedding,
}

/// Every advertiser, campaign, ad group and ad, each list in the order of ids.
#[derive(Default)]
pub(crate) struct AdIndex {
    pub advertisers: Vec<Advertiser>,
    pub campaigns: Vec<Campaign>,
    pub groups: Vec<Group>,
    pub ads: Vec<Ad>,
    pub keywords: KeywordIndex,
}

impl AdIndex {
    /// The limits of what a campaign may be charged.
    pub fn budget(&self, campaign: usize) -> Budget {
        let booked = &self.campaigns[campaign];
        Budget {
            day: booked.daily_budget,
            life: booked.lifetime_budget,
            account: self.advertisers[booked.advertiser].balance,
        }
    }

    /// What the ads of a group are paid for.
    pub fn billing(&self, group: usize) -> Billing {
        match self.campaigns[self.groups[group].campaign].bidding {
            Bidding::Cpm => Billing::PerMille,
            Bidding::ManualCpc | Bidding::MaximiseClicks | Bidding::TargetCpa => Billing::PerClick,
        }
    }

    /// Most that one billed event of a group costs.
    pub fn event_bid(&self, group: usize) -> Micros {
        let bid = self.groups[group].bid;
        match self.billing(group) {
            Billing::PerClick => bid,
            // Rounded up: it bounds a price that is rounded down.
            Billing::PerMille => Micros((bid.0 + 999) / 1000),
        }
    }
}

/// The words of an ad as one passage.
pub(crate) fn passage(headline: &str, text: &str) -> String {
    format!("{headline}. {text}")
}

/// Current ad versions that have no vector in `space`.
pub(crate) async fn without_embedding(
    db: &mut Connection,
    space: &EmbeddingSpace,
) -> Result<Vec<NewVersion>, AdsError> {
    let rows: Vec<(String, i64, String, String)> = sqlx::query_as(
        "SELECT a.id, a.version, v.headline, v.text FROM ads a \
         JOIN ad_versions v ON v.ad = a.id AND v.version = a.version \
         LEFT JOIN ad_embeddings e ON e.ad = a.id AND e.version = a.version AND e.space = $1 \
         WHERE e.ad IS NULL ORDER BY a.id",
    )
    .bind(space.fingerprint())
    .fetch_all(db)
    .await?;
    let version = |(ad, version, headline, text): (String, i64, String, String)| NewVersion {
        ad,
        version,
        passage: passage(&headline, &text),
    };
    Ok(rows.into_iter().map(version).collect())
}

/// Stores one vector for each of `versions`, in the same order.
pub(crate) async fn store_embeddings(
    db: &mut Connection,
    space: &EmbeddingSpace,
    versions: &[NewVersion],
    vectors: &[Embedding],
) -> Result<(), AdsError> {
    for (version, vector) in versions.iter().zip(vectors) {
        let bytes: Vec<u8> = vector.as_slice().iter().flat_map(|value| value.to_le_bytes()).collect();
        sqlx::query(
            "INSERT INTO ad_embeddings (ad, version, space, vector) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (ad, version, space) DO UPDATE SET vector = excluded.vector",
        )
        .bind(&version.ad)
        .bind(version.version)
        .bind(space.fingerprint())
        .bind(STANDARD.encode(bytes))
        .execute(&mut *db)
        .await?;
    }
    Ok(())
}

type CampaignRow = (String, String, i64, Option<i64>, String, Option<String>, Option<String>, String);
type AdRow = (String, String, String, i64, String, String, String, String, String);

/// Reads everything; `db` should be a transaction, so that the parts belong together.
pub(crate) async fn load(db: &mut Connection, space: &EmbeddingSpace) -> Result<AdIndex, AdsError> {
    let mut index = AdIndex::default();
    let mut advertiser_at = HashMap::new();
    let rows: Vec<(String, String, String, Option<i64>)> =
        sqlx::query_as("SELECT id, name, paid_by, balance_micros FROM advertisers ORDER BY id")
            .fetch_all(&mut *db)
            .await?;
    for (id, name, paid_by, balance) in rows {
        advertiser_at.insert(id.clone(), index.advertisers.len());
        index.advertisers.push(Advertiser { id, name, paid_by, balance: balance.map(Micros) });
    }

    let mut campaign_at = HashMap::new();
    let rows: Vec<CampaignRow> = sqlx::query_as(
        "SELECT id, advertiser, daily_budget_micros, lifetime_budget_micros, bidding, starts, ends, status \
         FROM campaigns ORDER BY id",
    )
    .fetch_all(&mut *db)
    .await?;
    for (id, advertiser, budget, life, bidding, starts, ends, status) in rows {
        let advertiser = *advertiser_at.get(&advertiser).ok_or_else(|| orphan("campaign", &id))?;
        campaign_at.insert(id.clone(), index.campaigns.len());
        index.campaigns.push(Campaign {
            id,
            advertiser,
            daily_budget: Micros(budget),
            lifetime_budget: life.map(Micros),
            bidding: Bidding::parse(&bidding).ok_or_else(|| orphan("bidding", &bidding))?,
            starts,
            ends,
            enabled: status == "enabled",
            groups: Vec::new(),
        });
    }

    let mut group_at = HashMap::new();
    let rows: Vec<(String, String, i64, i64, String, String)> = sqlx::query_as(
        "SELECT id, campaign, bid_micros, CAST(semantic AS INTEGER), languages, countries FROM ad_groups ORDER BY id",
    )
    .fetch_all(&mut *db)
    .await?;
    let codes = |list: String| list.split(',').filter(|code| !code.is_empty()).map(str::to_owned).collect();
    for (id, campaign, bid, semantic, languages, countries) in rows {
        let campaign = *campaign_at.get(&campaign).ok_or_else(|| orphan("ad group", &id))?;
        index.campaigns[campaign].groups.push(index.groups.len());
        group_at.insert(id.clone(), index.groups.len());
        let (languages, countries) = (codes(languages), codes(countries));
        index.groups.push(Group {
            id,
            campaign,
            bid: Micros(bid),
            semantic: semantic != 0,
            languages,
            countries,
            ads: Vec::new(),
        });
    }

    let rows: Vec<(String, String, String, i64)> = sqlx::query_as(
        "SELECT ad_group, text, match_type, CAST(negative AS INTEGER) FROM keywords ORDER BY ad_group, text, match_type, negative",
    )
    .fetch_all(&mut *db)
    .await?;
    for (group, text, match_type, negative) in rows {
        let at = *group_at.get(&group).ok_or_else(|| orphan("keyword", &text))?;
        let match_type = MatchType::parse(&match_type).ok_or_else(|| orphan("match type", &match_type))?;
        index.keywords.add(at, &Keyword { text, match_type, negative: negative != 0 });
    }

    load_ads(db, space, &group_at, &mut index).await?;
    Ok(index)
}

async fn load_ads(
    db: &mut Connection,
    space: &EmbeddingSpace,
    group_at: &HashMap<String, usize>,
    index: &mut AdIndex,
) -> Result<(), AdsError> {
    let rows: Vec<AdRow> = sqlx::query_as(
        "SELECT a.id, a.ad_group, a.status, a.version, v.headline, v.text, v.landing_url, v.display_url, e.vector \
         FROM ads a JOIN ad_versions v ON v.ad = a.id AND v.version = a.version \
         JOIN ad_embeddings e ON e.ad = a.id AND e.version = a.version AND e.space = $1 ORDER BY a.id",
    )
    .bind(space.fingerprint())
    .fetch_all(&mut *db)
    .await?;
    for (id, group, status, version, headline, text, landing_url, display_url, vector) in rows {
        let group = *group_at.get(&group).ok_or_else(|| orphan("ad", &id))?;
        let damaged = |what: &str| AdsError::Damaged { what: format!("{what} of ad {id} version {version}") };
        let version_number = u32::try_from(version).map_err(|_| damaged("version"))?;
        let embedding = decode(&vector, space.dim).ok_or_else(|| damaged("vector"))?;
        let passage = passage(&headline, &text).into();
        index.groups[group].ads.push(index.ads.len());
        index.ads.push(Ad {
            id,
            group,
            version: version_number,
            headline,
            text,
            landing_url,
            display_url,
            enabled: status == "enabled",
            passage,
            embedding,
        });
    }
    Ok(())
}

fn decode(vector: &str, dim: usize) -> Option<Embedding> {
    let bytes = STANDARD.decode(vector).ok()?;
    let (values, rest) = bytes.as_chunks::<4>();
    if values.len() != dim || !rest.is_empty() {
        return None;
    }
    Embedding::normalized(values.iter().map(|value| f32::from_le_bytes(*value)).collect()).ok()
}

fn orphan(kind: &str, id: &str) -> AdsError {
    AdsError::Damaged { what: format!("{kind} {id} refers to a row that is not there") }
}
