//! One request to one slate.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use bowerbird_auction::{Award, Probability};
use bowerbird_models_api::{Embedding, RerankLogit, TextRole};
use bowerbird_scheduler::{Job, Priority};
use jiff::Timestamp;
use sqlx::{QueryBuilder, Sqlite};
use uuid::Uuid;

use crate::award::bid;
use crate::budget;
use crate::click::counts::Counts;
use crate::engine::Engine;
use crate::explain::{Funnel, Reason, Scores};
use crate::index::AdIndex;
use crate::keywords::KeywordMatch;
use crate::matching::{self, Audience, Match};
use crate::text::QueryWords;
use crate::time::{day, millis, millis_after};
use crate::token::{Kind, Payload, destination_hash};
use crate::{AdsError, Degraded, MatchType, NoFill, Slate, SponsoredBlock, sensitive};

/// Longest request text, in bytes.
const MAX_TEXT_BYTES: usize = 64 * 1024;
/// From this many ads on, matching is moved off the async threads: it takes about half a microsecond an ad.
const MATCH_INLINE: usize = 1000;

/// What ads are asked for.
#[derive(Clone, Debug)]
pub struct AdRequest {
    /// The query, or the text of the place where ads would stand.
    pub text: String,
    /// Its vector in the query role, if the caller has it already.
    pub embedding: Option<Embedding>,
    /// Language of the reader, such as `en`.
    pub lang: Option<String>,
    /// Country of the reader, such as `US`.
    pub country: Option<String>,
    /// Slots to fill; more than the configuration has count as that many.
    pub slots: usize,
    /// The caller knows that no ad belongs here.
    pub page_sensitive: bool,
    /// Report a reason for every campaign.
    pub explain: bool,
    /// The time at which this happens.
    pub now: Timestamp,
    /// Names the auction; ties are broken by it. The same id in the same state gives the same slate.
    pub auction_id: Uuid,
    /// No model work is started after this moment.
    pub deadline: Option<Instant>,
}

/// An ad with everything the auction needs.
pub(crate) struct Scored {
    /// Position in [`AdIndex::ads`].
    pub ad: usize,
    pub keyword: Option<KeywordMatch>,
    pub cosine: f32,
    pub logit: RerankLogit,
    pub relevance: Probability,
    pub click_probability: Probability,
}

impl Engine {
    pub(crate) async fn decide(&self, request: AdRequest) -> Result<Slate, AdsError> {
        if request.text.len() > MAX_TEXT_BYTES {
            return Err(AdsError::TextTooLong { limit: MAX_TEXT_BYTES, found: request.text.len() });
        }
        let index = self.index();
        let mut funnel = Funnel::new(&index);

        let refused = sensitive::unsafe_for_ads(&request.text, request.page_sensitive);
        if let Some(reason) = refused.or((request.slots == 0).then_some(NoFill::NoSlot)) {
            return Ok(unfilled(&request, &index, funnel, reason));
        }
        let day = day(request.now);
        let spend = self.current_spend(&day, request.now).await?;
        let audience = Audience {
            day: &day,
            lang: request.lang.as_deref(),
            country: request.country.as_deref(),
            spend: &spend,
        };
        let groups = matching::eligible(&index, &audience, &mut funnel);

        let Some(embedding) = self.embedding(&request, &groups).await else {
            return Ok(slate(
                &request,
                &index,
                Vec::new(),
                stop_all(funnel, &index, &groups),
                Some(Degraded::Embedding),
            ));
        };
        let (matches, mut funnel) = self.matches(&request, index.clone(), groups, embedding, funnel).await?;
        let (scored, degraded) = self.gate(&request, &index, matches, &mut funnel).await?;
        let awards = self.award(&request, &index, &scored, &day, &mut funnel).await?;
        let blocks = self.blocks(&request, &index, &scored, &awards)?;
        Ok(slate(&request, &index, blocks, funnel, degraded))
    }

    /// The day's spending, after reservations that ran out have been given back.
    async fn current_spend(
        &self,
        day: &str,
        now: Timestamp,
    ) -> Result<HashMap<String, budget::Spend>, AdsError> {
        let mut reader = self.store.reader.acquire().await?;
        if budget::any_expired(&mut reader, millis(now)).await? {
            let mut tx = self.store.begin_write().await?;
            budget::release_expired(&mut tx, millis(now)).await?;
            tx.commit().await?;
        }
        budget::spend_of_day(&mut reader, day).await
    }

    /// The request's vector; `None` when the models could not make it in time. With nobody to show, none is made.
    async fn embedding(&self, request: &AdRequest, groups: &[usize]) -> Option<Embedding> {
        if let Some(given) = &request.embedding {
            return Some(given.clone());
        }
        if groups.is_empty() {
            // Any direction will do: there is no ad to compare it with.
            return Embedding::normalized(vec![1.0; self.encoders.space().dim]).ok();
        }
        let job = Job { priority: Priority::QueryEmbedding, deadline: request.deadline };
        match self.encoders.embed(&request.text, TextRole::Query, job).await {
            Ok(embedding) => Some(embedding),
            Err(error) => {
                tracing::warn!(%error, auction_id = %request.auction_id, "no ads: the request was not embedded");
                None
            }
        }
    }

    async fn matches(
        &self,
        request: &AdRequest,
        index: Arc<AdIndex>,
        groups: Vec<usize>,
        embedding: Embedding,
        mut funnel: Funnel,
    ) -> Result<(Vec<Match>, Funnel), AdsError> {
        let (threshold, limit) = (self.config.semantic_threshold, self.config.max_scored);
        let inline = index.ads.len() < MATCH_INLINE;
        let text = request.text.clone();
        let work = move || {
            let query = QueryWords::new(&text);
            let found = matching::matches(&index, &groups, &query, &embedding, threshold, limit, &mut funnel);
            found.map(|found| (found, funnel))
        };
        let found = if inline { work() } else { tokio::task::spawn_blocking(work).await? };
        found.map_err(AdsError::Embedding)
    }

    /// Scores every match and keeps those that pass. What could not be scored does not pass.
    async fn gate(
        &self,
        request: &AdRequest,
        index: &AdIndex,
        matches: Vec<Match>,
        funnel: &mut Funnel,
    ) -> Result<(Vec<Scored>, Option<Degraded>), AdsError> {
        let passages: Vec<Arc<str>> = matches.iter().map(|m| index.ads[m.ad].passage.clone()).collect();
        let job = Job { priority: Priority::Rerank, deadline: request.deadline };
        let logits = self.encoders.score(&request.text, &passages, job).await;
        let counts = self.counts(index, &matches).await?;
        let (mut passed, mut degraded) = (Vec::new(), None);
        for (matched, logit) in matches.into_iter().zip(logits) {
            let ad = matched.ad;
            let logit = match logit {
                Ok(logit) => logit,
                Err(error) => {
                    if degraded.is_none() {
                        tracing::warn!(%error, auction_id = %request.auction_id, "ads left out: not scored");
                    }
                    degraded = Some(Degraded::Relevance);
                    funnel.stop(ad, Reason::NotScored);
                    continue;
                }
            };
            let relevance = self.config.gate.relevance(logit, matched.cosine);
            let counts = counts.get(&index.ads[ad].id).copied().unwrap_or_default();
            let click_probability = self.config.click_prior.estimate(relevance.log_odds, counts);
            funnel.scored(
                ad,
                Scores {
                    match_type: matched.keyword.as_ref().map(|keyword| keyword.match_type),
                    keyword: matched.keyword.as_ref().map(|keyword| keyword.text.clone()),
                    cosine: matched.cosine,
                    logit: logit.get(),
                    relevance: relevance.score.get(),
                    click_probability: click_probability.get(),
                    bid: bid(index, ad),
                },
            );
            let exact =
                matched.keyword.as_ref().is_some_and(|keyword| keyword.match_type == MatchType::Exact);
            let threshold = self.config.gate.threshold_for(exact);
            if relevance.score.get() < threshold {
                funnel.stop(ad, Reason::BelowRelevance { score: relevance.score.get(), threshold });
                continue;
            }
            if bid(index, ad) < self.config.reserve_micros {
                let (bid, reserve) = (bid(index, ad), self.config.reserve_micros);
                funnel.stop(ad, Reason::BelowReserve { bid, reserve });
                continue;
            }
            let Match { ad, keyword, cosine } = matched;
            passed.push(Scored { ad, keyword, cosine, logit, relevance: relevance.score, click_probability });
        }
        Ok((passed, degraded))
    }

    async fn counts(&self, index: &AdIndex, matches: &[Match]) -> Result<HashMap<String, Counts>, AdsError> {
        if matches.is_empty() {
            return Ok(HashMap::new());
        }
        let mut query =
            QueryBuilder::<Sqlite>::new("SELECT ad, impressions, clicks FROM ad_counts WHERE ad IN (");
        let mut list = query.separated(", ");
        for matched in matches {
            list.push_bind(index.ads[matched.ad].id.clone());
        }
        query.push(")");
        let rows: Vec<(String, i64, i64)> = query.build_query_as().fetch_all(&self.store.reader).await?;
        Ok(rows.into_iter().map(|(ad, impressions, clicks)| (ad, Counts { impressions, clicks })).collect())
    }

    fn blocks(
        &self,
        request: &AdRequest,
        index: &AdIndex,
        scored: &[Scored],
        awards: &[Award<String>],
    ) -> Result<Vec<SponsoredBlock>, AdsError> {
        let mut blocks = Vec::with_capacity(awards.len());
        for award in awards {
            let Some(winner) = scored.iter().find(|scored| index.ads[scored.ad].id == award.id) else {
                continue;
            };
            tracing::debug!(
                auction_id = %request.auction_id, ad = %award.id, slot = award.slot, price = %award.price_per_click,
                relevance = winner.relevance.get(), cosine = winner.cosine, logit = winner.logit.get(), "ad served"
            );
            let ad = &index.ads[winner.ad];
            let advertiser = &index.advertisers[index.campaigns[index.groups[ad.group].campaign].advertiser];
            let ttl = self.config.time_to_live;
            let token = |kind, ttl| {
                self.keys.sign(&Payload {
                    kind,
                    auction_id: request.auction_id,
                    slot: u8::try_from(award.slot).unwrap_or(u8::MAX),
                    ad_id: ad.id.clone(),
                    ad_version: ad.version,
                    price: award.price_per_click,
                    decided_ms: millis(request.now),
                    expires_ms: millis_after(request.now, ttl),
                    destination: destination_hash(&ad.landing_url),
                })
            };
            blocks.push(SponsoredBlock {
                r#type: SponsoredBlock::TYPE,
                label: SponsoredBlock::LABEL,
                ad_id: ad.id.clone(),
                advertiser: advertiser.name.clone(),
                paid_by: advertiser.paid_by.clone(),
                headline: ad.headline.clone(),
                text: ad.text.clone(),
                display_url: ad.display_url.clone(),
                why: why(winner.keyword.as_ref()),
                click_url: format!("/e/c/{}", token(Kind::Click, ttl.click)?),
                impression_url: format!("/e/i/{}", token(Kind::Impression, ttl.impression)?),
                slot: award.slot,
            });
        }
        Ok(blocks)
    }
}

fn why(keyword: Option<&KeywordMatch>) -> String {
    match keyword {
        Some(keyword) => format!("Matches your search for \u{201c}{}\u{201d}", keyword.text),
        None => "Related to what you searched for".into(),
    }
}

fn slate(
    request: &AdRequest,
    index: &AdIndex,
    blocks: Vec<SponsoredBlock>,
    funnel: Funnel,
    degraded: Option<Degraded>,
) -> Slate {
    let outcome = match (blocks.is_empty(), degraded) {
        (false, _) => "filled",
        (true, None) => "unfilled",
        (true, Some(_)) => "degraded",
    };
    metrics::counter!("bowerbird_ads_decisions_total", "outcome" => outcome).increment(1);
    let explain = request.explain.then(|| funnel.explain(index));
    Slate { auction_id: request.auction_id, blocks, no_fill: None, degraded, explain }
}

fn unfilled(request: &AdRequest, index: &AdIndex, mut funnel: Funnel, reason: NoFill) -> Slate {
    metrics::counter!("bowerbird_ads_decisions_total", "outcome" => "refused").increment(1);
    for campaign in 0..index.campaigns.len() {
        funnel.stop_campaign(campaign, Reason::Refused);
    }
    let explain = request.explain.then(|| funnel.explain(index));
    Slate { auction_id: request.auction_id, no_fill: Some(reason), explain, ..Slate::default() }
}

/// Without the request's vector no ad can be checked.
fn stop_all(mut funnel: Funnel, index: &AdIndex, groups: &[usize]) -> Funnel {
    for ad in groups.iter().flat_map(|group| &index.groups[*group].ads) {
        if index.ads[*ad].enabled {
            funnel.stop(*ad, Reason::NotScored);
        }
    }
    funnel
}
