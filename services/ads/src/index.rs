//! The booked ads in memory: one immutable snapshot, replaced whole after a change.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bowerbird_auction::{Billing, Micros};
use bowerbird_models_api::{Embedding, EmbeddingSpace};
use sqlx::AssertSqlSafe;

use crate::AdsError;
use crate::booking::{self, Booking, Level, Pacing, Review};
use crate::import::NewVersion;
use crate::keywords::KeywordIndex;
use crate::money::Budget;
use crate::sql;
use crate::store::Connection;
use crate::stored::{self, Stored, Which};
use crate::targeting::{Bidding, FrequencyCap, Targeting};

/// Vectors that one statement reads.
const VECTORS_AT_ONCE: usize = 500;

/// Who books.
pub(crate) struct Advertiser {
    pub id: String,
    pub name: String,
    pub paid_by: String,
    pub enabled: bool,
    /// Most ever charged to the account; none: no limit.
    pub balance: Option<Micros>,
    /// IAB Ad Product Taxonomy 2.0.
    pub category: Option<u32>,
    /// No ad beside a post with one of them.
    pub blocked_terms: Vec<String>,
    /// No ad beside a post by one of them.
    pub blocked_authors: Vec<String>,
    pub cap: Option<FrequencyCap>,
}

/// A budget and the time it may be spent in.
pub(crate) struct Campaign {
    pub id: String,
    pub advertiser: usize,
    pub daily_budget: Micros,
    pub lifetime_budget: Option<Micros>,
    pub bidding: Bidding,
    /// With [`Bidding::TargetCpa`].
    pub target_cpa: Option<Micros>,
    pub pacing: Pacing,
    pub cap: Option<FrequencyCap>,
    /// First day, `YYYY-MM-DD`.
    pub starts: Option<String>,
    /// Last day.
    pub ends: Option<String>,
    /// The campaign and its advertiser are.
    pub enabled: bool,
    /// Positions in [`AdIndex::groups`].
    pub groups: Vec<usize>,
}

/// A bid and whom it is for.
pub(crate) struct Group {
    pub id: String,
    pub name: String,
    pub campaign: usize,
    pub bid: Micros,
    pub semantic: bool,
    /// Least cosine of a semantic match, where it differs from the configuration's.
    pub semantic_threshold: Option<f32>,
    pub targeting: Targeting,
    pub enabled: bool,
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
    /// Sentences the advertiser vouches for.
    pub facts: Vec<String>,
    pub review: Review,
    pub cap: Option<FrequencyCap>,
    /// The ad and its ad group are, and the ad is approved.
    pub enabled: bool,
    /// What the models read.
    pub passage: Arc<str>,
    pub embedding: Arc<Embedding>,
}

/// Every advertiser, campaign, ad group and ad that is not removed, each list in the order of ids.
#[derive(Default)]
pub(crate) struct AdIndex {
    pub advertisers: Vec<Advertiser>,
    pub campaigns: Vec<Campaign>,
    pub groups: Vec<Group>,
    pub ads: Vec<Ad>,
    pub keywords: KeywordIndex,
}

impl AdIndex {
    /// Who booked an ad.
    pub fn advertiser_of(&self, ad: usize) -> &Advertiser {
        &self.advertisers[self.campaigns[self.groups[self.ads[ad].group].campaign].advertiser]
    }

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

/// Reads everything; `db` should be a transaction, so that the parts belong together. Vectors that `before` has of the
/// same version are taken from there: they are most of what is stored.
pub(crate) async fn load(
    db: &mut Connection,
    space: &EmbeddingSpace,
    before: &AdIndex,
) -> Result<AdIndex, AdsError> {
    let mut index = AdIndex::default();
    // Positions by id, level after level; what hangs below something removed is left out with it.
    let mut at: HashMap<String, usize> = HashMap::new();
    for level in Level::ALL {
        let parents = std::mem::take(&mut at);
        let stored = stored::load(db, level, Which::All).await?;
        let mut vectors = if level == Level::Ad { vectors(db, space, before).await? } else { HashMap::new() };
        for Stored { booking, version, verdict, .. } in stored.into_iter().filter(|stored| !stored.removed) {
            let parent = match booking.parent() {
                None => 0,
                Some(id) => match parents.get(id) {
                    Some(parent) => *parent,
                    None => continue,
                },
            };
            let id = booking.id().to_owned();
            let place = match booking {
                Booking::Advertiser(advertiser) => index.add_advertiser(advertiser),
                Booking::Campaign(campaign) => index.add_campaign(campaign, parent),
                Booking::AdGroup(group) => index.add_group(group, parent),
                Booking::Ad(ad) => {
                    // A version that has no vector yet is not shown yet.
                    let Some(embedding) = vectors.remove(&id) else { continue };
                    let damaged =
                        |_| AdsError::Damaged { what: format!("version of ad {id} version {version}") };
                    let version = u32::try_from(version).map_err(damaged)?;
                    index.add_ad(ad, parent, version, verdict.review, embedding)
                }
            };
            at.insert(id, place);
        }
    }
    Ok(index)
}

/// Vector of the current version by ad.
async fn vectors(
    db: &mut Connection,
    space: &EmbeddingSpace,
    before: &AdIndex,
) -> Result<HashMap<String, Arc<Embedding>>, AdsError> {
    let known: HashMap<&str, &Ad> = before.ads.iter().map(|ad| (ad.id.as_str(), ad)).collect();
    let there: Vec<(String, i64)> = sqlx::query_as(
        "SELECT a.id, a.version FROM ads a \
         JOIN ad_embeddings e ON e.ad = a.id AND e.version = a.version AND e.space = $1",
    )
    .bind(space.fingerprint())
    .fetch_all(&mut *db)
    .await?;
    let (mut vectors, mut missing) = (HashMap::with_capacity(there.len()), Vec::new());
    for (id, version) in there {
        match known.get(id.as_str()).filter(|ad| i64::from(ad.version) == version) {
            Some(ad) => drop(vectors.insert(id, ad.embedding.clone())),
            None => missing.push(id),
        }
    }
    for ids in missing.chunks(VECTORS_AT_ONCE) {
        let statement = format!(
            "SELECT a.id, a.version, e.vector FROM ads a \
             JOIN ad_embeddings e ON e.ad = a.id AND e.version = a.version AND e.space = $1 WHERE a.id IN ({})",
            sql::places(2, ids.len())
        );
        let query = sqlx::query_as::<_, (String, i64, String)>(AssertSqlSafe(statement));
        let query = ids.iter().fold(query.bind(space.fingerprint()), |query, id| query.bind(id.clone()));
        for (id, version, vector) in query.fetch_all(&mut *db).await? {
            let damaged = || AdsError::Damaged { what: format!("vector of ad {id} version {version}") };
            let embedding = decode(&vector, space.dim).ok_or_else(damaged)?;
            vectors.insert(id, Arc::new(embedding));
        }
    }
    Ok(vectors)
}

impl AdIndex {
    fn add_advertiser(&mut self, a: booking::Advertiser) -> usize {
        self.advertisers.push(Advertiser {
            id: a.id,
            name: a.name,
            paid_by: a.paid_by,
            enabled: a.enabled,
            balance: a.balance,
            category: a.category,
            blocked_terms: a.blocked_terms,
            blocked_authors: a.blocked_authors,
            cap: a.cap,
        });
        self.advertisers.len() - 1
    }

    fn add_campaign(&mut self, c: booking::Campaign, advertiser: usize) -> usize {
        self.campaigns.push(Campaign {
            id: c.id,
            advertiser,
            daily_budget: c.daily_budget,
            lifetime_budget: c.lifetime_budget,
            bidding: c.bidding,
            target_cpa: c.target_cpa,
            pacing: c.pacing,
            cap: c.cap,
            starts: c.starts,
            ends: c.ends,
            enabled: c.enabled,
            groups: Vec::new(),
        });
        self.campaigns.len() - 1
    }

    fn add_group(&mut self, g: booking::AdGroup, campaign: usize) -> usize {
        let place = self.groups.len();
        self.campaigns[campaign].groups.push(place);
        for keyword in &g.keywords {
            self.keywords.add(place, keyword);
        }
        self.groups.push(Group {
            id: g.id,
            name: g.name,
            campaign,
            bid: g.bid,
            semantic: g.semantic,
            semantic_threshold: g.semantic_threshold.map(|least| least as f32),
            targeting: g.targeting,
            enabled: g.enabled,
            ads: Vec::new(),
        });
        place
    }

    fn add_ad(
        &mut self,
        ad: booking::Ad,
        group: usize,
        version: u32,
        review: Review,
        embedding: Arc<Embedding>,
    ) -> usize {
        let place = self.ads.len();
        self.groups[group].ads.push(place);
        self.ads.push(Ad {
            id: ad.id,
            group,
            version,
            passage: passage(&ad.words.headline, &ad.words.text).into(),
            headline: ad.words.headline,
            text: ad.words.text,
            landing_url: ad.words.landing_url,
            display_url: ad.words.display_url,
            facts: ad.words.facts,
            review,
            cap: ad.cap,
            enabled: ad.enabled,
            embedding,
        });
        place
    }
}

fn decode(vector: &str, dim: usize) -> Option<Embedding> {
    let bytes = STANDARD.decode(vector).ok()?;
    let (values, rest) = bytes.as_chunks::<4>();
    if values.len() != dim || !rest.is_empty() {
        return None;
    }
    Embedding::normalized(values.iter().map(|value| f32::from_le_bytes(*value)).collect()).ok()
}
