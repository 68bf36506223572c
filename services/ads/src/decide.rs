//! One request to one slate.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use bowerbird_auction::{Billing, Micros, Probability};
use bowerbird_models_api::{Embedding, RerankLogit, TextRole};
use bowerbird_scheduler::{Job, Priority};
use jiff::Timestamp;
use roaring::RoaringBitmap;
use uuid::Uuid;

use crate::auction::Won;
use crate::audience::Audience;
use crate::award::{bid, billed};
use crate::caps::UserHash;
use crate::click::Estimate;
use crate::engine::Engine;
use crate::explain::{Funnel, Reason, Scores};
use crate::index::AdIndex;
use crate::keywords::KeywordMatch;
use crate::learning::Reading;
use crate::matching::{self, Match, Question};
use crate::money;
use crate::pacing::PacedBid;
use crate::snapshot::Snapshot;
use crate::text::QueryWords;
use crate::time::{millis, millis_after};
use crate::token::{Kind, Payload, destination_hash};
use crate::wording::Wording;
use crate::{
    AdsError, Degraded, Device, MatchType, Neighbour, NoFill, Place, Slate, Sold, SponsoredBlock, Texts,
    beside, sensitive,
};

/// Longest request text, in bytes.
const MAX_TEXT_BYTES: usize = 64 * 1024;
/// Most ads that a page has already.
pub const MAX_BESIDE_ADS: usize = 16;
/// Most topics of a request.
const MAX_TOPICS: usize = 32;
/// From this many ads on, matching is moved off the async threads; explaining looks at every ad, half a microsecond
/// each.
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
    /// What the reader looks at it with.
    pub device: Option<Device>,
    /// Names the reader to frequency caps, at most 256 bytes; only a keyed hash of it is kept. Without it no ad with a
    /// cap is shown.
    pub user: Option<String>,
    /// What the text is about, at most 32 unique ids of the IAB Content Taxonomy 3.1; worked out from the text when
    /// absent.
    pub topics: Option<Vec<u16>>,
    /// Slots to fill; more than the configuration has count as that many.
    pub slots: usize,
    /// What the ads would stand beside.
    pub place: Place,
    /// Posts that the ads would stand beside; the first eight are judged.
    pub beside: Vec<Neighbour>,
    /// Ids of ads that stand on the page already, at most 16: neither they nor others of their advertisers are shown.
    pub beside_ads: Vec<String>,
    /// Domains whose advertisers are not accepted, lower case; subdomains count.
    pub blocked_domains: Vec<String>,
    /// Nothing is held, kept or billed, and links lead nowhere that counts.
    pub test: bool,
    /// The caller knows that no ad belongs here.
    pub page_sensitive: bool,
    /// Report a reason for every campaign.
    pub explain: bool,
    /// Whose texts may be shown.
    pub texts: Texts,
    /// The time at which this happens.
    pub now: Timestamp,
    /// Names the auction; ties are broken by it. The same id in the same state gives the same slate.
    pub auction_id: Uuid,
    /// No model work is started after this moment.
    pub deadline: Option<Instant>,
}

impl AdRequest {
    /// A request for one slot beside `text`, of a reader of whom nothing is known.
    pub fn new(text: impl Into<String>, now: Timestamp, auction_id: Uuid) -> Self {
        Self {
            text: text.into(),
            embedding: None,
            lang: None,
            country: None,
            device: None,
            user: None,
            topics: None,
            slots: 1,
            place: Place::Page,
            beside: Vec::new(),
            beside_ads: Vec::new(),
            blocked_domains: Vec::new(),
            test: false,
            page_sensitive: false,
            explain: false,
            texts: Texts::Any,
            now,
            auction_id,
            deadline: None,
        }
    }

    /// How its model work queues that is as urgent as `priority` for a page; below an answer nobody waits for it yet, and
    /// the checks of sentences come first come first served with it.
    pub(crate) fn job(&self, priority: Priority) -> Job {
        let priority = match self.place {
            Place::Page => priority,
            Place::Answer => Priority::AnswerCheck,
        };
        Job { priority, deadline: self.deadline }
    }
}

/// An ad with everything the auction needs.
pub(crate) struct Scored {
    /// Position in [`AdIndex::ads`].
    pub ad: usize,
    pub keyword: Option<KeywordMatch>,
    pub cosine: f32,
    pub logit: RerankLogit,
    /// Log-odds of the relevance gate.
    pub log_odds: f64,
    pub relevance: Probability,
    /// What the click model says.
    pub estimate: Estimate,
    /// What the auction takes for it.
    pub click_probability: Probability,
    /// What it bids with now.
    pub paced: PacedBid,
    /// The probability was drawn, to learn about ads that seldom win.
    pub explored: bool,
    /// What a model wrote for this query, where anything was.
    pub wording: Option<Arc<Wording>>,
}

impl Scored {
    /// Most that it pays now.
    pub fn effective(&self) -> Micros {
        bowerbird_auction::paced_bid(self.paced.bid, self.paced.pacing)
    }

    /// Micros for an impression of the first slot if it is clicked with this probability, squashed by `gamma`.
    pub fn worth(&self, index: &AdIndex, clicks: f64, gamma: f64) -> f64 {
        let bid = self.effective().0 as f64;
        match index.billing(index.ads[self.ad].group) {
            Billing::PerClick => bid * clicks.powf(gamma),
            Billing::PerMille => bid / 1000.0,
        }
    }
}

/// A request with the ads that fit it, before the auction: nothing is held yet, and a contest that is dropped costs
/// nobody anything.
pub struct Contest {
    pub(crate) request: AdRequest,
    snapshot: Arc<Snapshot>,
    user: Option<UserHash>,
    funnel: Funnel,
    field: Field,
}

/// Who takes part.
enum Field {
    /// Nobody: the request got no ads at all.
    Refused(NoFill),
    /// Ads, scored for this reader; some left out when a stage was skipped.
    Open { reading: Reading, scored: Vec<Scored>, degraded: Option<Degraded> },
    /// Nobody: the request was not understood in time.
    Unread,
}

impl Contest {
    /// The same, to be settled at `now` for places below `answer`, which is judged by the list of words and compared with
    /// advertisers' block lists; the posts it was written from were judged before.
    #[must_use]
    pub fn below(mut self, answer: &str, now: Timestamp) -> Self {
        self.request.now = now;
        if let Some(term) = sensitive::sensitive_term(answer) {
            self.field = Field::Refused(NoFill::UnsafeNeighbour { cause: format!("list:{term}") });
        }
        if let Field::Open { scored, .. } = &mut self.field {
            let (index, funnel) = (&self.snapshot.ads, &mut self.funnel);
            let answer = [Neighbour { author: String::new(), text: answer.to_owned() }];
            scored.retain(|scored| {
                let blocked = beside::blocks(index.advertiser_of(scored.ad), &answer);
                if blocked {
                    funnel.stop(scored.ad, Reason::BlockList);
                }
                !blocked
            });
        }
        self
    }
}

impl Engine {
    /// Everything up to the auction: the stages that take time.
    pub(crate) async fn contest(&self, request: AdRequest) -> Result<Contest, AdsError> {
        if request.text.len() > MAX_TEXT_BYTES {
            return Err(AdsError::TextTooLong { limit: MAX_TEXT_BYTES, found: request.text.len() });
        }
        if let Some(found) = request.topics.as_ref().map(Vec::len).filter(|found| *found > MAX_TOPICS) {
            return Err(AdsError::TooManyTopics { limit: MAX_TOPICS, found });
        }
        if request.beside_ads.len() > MAX_BESIDE_ADS {
            return Err(AdsError::TooManyAds { limit: MAX_BESIDE_ADS, found: request.beside_ads.len() });
        }
        let snapshot = self.snapshot();
        let mut contest = Contest {
            request,
            snapshot: snapshot.clone(),
            user: None,
            funnel: Funnel::default(),
            field: Field::Unread,
        };
        let (request, funnel) = (&contest.request, &mut contest.funnel);

        let refused = sensitive::unsafe_for_ads(&request.text, request.page_sensitive)
            .or_else(|| beside::listed(request))
            .or((request.slots == 0).then_some(NoFill::NoSlot));
        if let Some(reason) = refused {
            return Ok(Contest { field: Field::Refused(reason), ..contest });
        }
        contest.user =
            request.user.as_deref().map(|user| UserHash::new(&self.user_secret, user)).transpose()?;
        if !snapshot.caps.is_empty() {
            self.release(request);
        }
        let (lang, country) = (request.lang.as_deref(), request.country.as_deref());
        let mut audience = Audience::new(request.now, lang, country, request.device);
        self.give_back_expired(request.now).await?;
        self.follow_spending(&snapshot, &audience.day);
        let mut eligible = snapshot.eligibility.eligible(&audience);

        let Some(embedding) = self.embedding(request, eligible.is_empty()).await else {
            if request.explain {
                matching::explain(&snapshot, &audience, None, &[], funnel).map_err(AdsError::Embedding)?;
            }
            return Ok(contest);
        };
        if let Some(reason) = beside::unsafe_text(self.safety, &request.text, &embedding) {
            return Ok(Contest { field: Field::Refused(reason), ..contest });
        }
        if snapshot.eligibility.asks_topics() {
            audience.topics = self.topics_of(request, &embedding);
            snapshot.eligibility.narrow_topics(&mut eligible, &audience.topics);
        }
        let reading = Reading::new(&request.text, audience.clone(), request.place);
        let matched = self.matches(request, snapshot.clone(), audience, eligible, embedding, contest.user);
        let mut matches;
        (matches, *funnel) = matched.await?;
        keep_apart(&snapshot.ads, &request.beside_ads, &mut matches, funnel);
        // Looking at the neighbours costs the model some milliseconds each: only where an ad might be shown.
        if !matches.is_empty()
            && let Some(reason) = self.unsafe_neighbour(request).await
        {
            return Ok(Contest { field: Field::Refused(reason), ..contest });
        }
        let (scored, degraded) = self.gate(request, &reading, &snapshot.ads, matches, funnel).await?;
        Ok(Contest { field: Field::Open { reading, scored, degraded }, ..contest })
    }

    /// The auction among those that fit, and the blocks of its winners.
    pub(crate) async fn settle(&self, contest: Contest) -> Result<Slate, AdsError> {
        let Contest { request, snapshot, user, mut funnel, field } = contest;
        let index = &snapshot.ads;
        let (reading, mut scored, degraded) = match field {
            Field::Refused(reason) => return Ok(unfilled(&request, index, funnel, reason)),
            Field::Unread => {
                return Ok(slate(&request, index, Vec::new(), funnel, Some(Degraded::Embedding)));
            }
            Field::Open { reading, scored, degraded } => (reading, scored, degraded),
        };
        self.wordings.give(&request, index, &mut scored);
        let won = self.award(&request, &reading, &snapshot, user, &scored, &mut funnel).await?;
        let blocks = self.blocks(&request, index, &scored, &won)?;
        let shown = |scored: &&Scored| won.iter().any(|won| won.award.id == index.ads[scored.ad].id);
        self.wordings.ask(&request, index, scored.iter().filter(shown).map(|scored| scored.ad));
        let drawn_empty = request.place == Place::Answer && blocks.is_empty() && funnel.lost_auction();
        let no_fill = drawn_empty.then_some(NoFill::NoAdDrawn);
        Ok(Slate { no_fill, ..slate(&request, index, blocks, funnel, degraded) })
    }

    fn topics_of(&self, request: &AdRequest, embedding: &Embedding) -> Vec<u16> {
        match (&request.topics, self.topics.get()) {
            (Some(given), _) => given.clone(),
            (None, Some(topics)) => topics.of(embedding),
            (None, None) => Vec::new(),
        }
    }

    /// Gives back the places that an earlier decision of the same auction took: this one comes in its stead.
    fn release(&self, request: &AdRequest) {
        for slot in 1..=request.slots.min(self.config.slot_multipliers.len()) {
            let slot = u8::try_from(slot).unwrap_or(u8::MAX);
            if let Some(hold) = self.holds.take(request.auction_id.as_u128(), slot) {
                self.caps.release(&hold);
            }
        }
    }

    /// Ends holds that ran out, if any did, so that their money can be offered again.
    async fn give_back_expired(&self, now: Timestamp) -> Result<(), AdsError> {
        if self.spending.holds_expired(millis(now)) {
            self.writer
                .run(move |work| Box::pin(async move { money::expire(work, millis(now)).await }))
                .await?;
        }
        Ok(())
    }

    /// The request's vector; `None` when the models could not make it in time. With nobody to show, none is made.
    async fn embedding(&self, request: &AdRequest, nobody: bool) -> Option<Embedding> {
        if let Some(given) = &request.embedding {
            return Some(given.clone());
        }
        if nobody {
            // Any direction will do: there is no ad to compare it with.
            return Embedding::normalized(vec![1.0; self.encoders.space().dim]).ok();
        }
        let job = request.job(Priority::QueryEmbedding);
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
        snapshot: Arc<Snapshot>,
        audience: Audience,
        eligible: RoaringBitmap,
        embedding: Embedding,
        user: Option<UserHash>,
    ) -> Result<(Vec<Match>, Funnel), AdsError> {
        let (caps, limit) = (self.caps.clone(), self.config.max_scored);
        let inline = snapshot.ads.ads.len() < MATCH_INLINE;
        let (text, explain, now) = (request.text.clone(), request.explain, request.now.as_second());
        let work = move || {
            let query = QueryWords::new(&text);
            let question = Question { query: &query, embedding: &embedding, user, caps: &caps, now, limit };
            let found = matching::find(&snapshot, &eligible, &question)?;
            let mut funnel = Funnel::default();
            if explain {
                matching::explain(&snapshot, &audience, Some(&question), &found, &mut funnel)?;
            }
            Ok((found, funnel))
        };
        let found = if inline { work() } else { tokio::task::spawn_blocking(work).await? };
        found.map_err(AdsError::Embedding)
    }

    /// Scores every match and keeps those that pass. What could not be scored does not pass.
    async fn gate(
        &self,
        request: &AdRequest,
        reading: &Reading,
        index: &AdIndex,
        matches: Vec<Match>,
        funnel: &mut Funnel,
    ) -> Result<(Vec<Scored>, Option<Degraded>), AdsError> {
        let passages: Vec<Arc<str>> = matches.iter().map(|m| index.ads[m.ad].passage.clone()).collect();
        let job = request.job(Priority::Rerank);
        let logits = self.encoders.score(&request.text, &passages, job).await;
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
            let features = reading.features(index, ad, matched.keyword.as_ref());
            let estimate = self.learning.model.estimate(&features, relevance.log_odds);
            let auction = request.auction_id.into_bytes();
            let drawn = self.learning.model.explored(&estimate, auction, &index.ads[ad].id);
            let click_probability = drawn.unwrap_or(estimate.probability);
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
            if beside::blocks(index.advertiser_of(ad), &request.beside)
                || blocked(&index.ads[ad].landing_url, &request.blocked_domains)
            {
                funnel.stop(ad, Reason::BlockList);
                continue;
            }
            let reserve = match index.billing(index.ads[ad].group) {
                Billing::PerClick => self.config.reserve_micros,
                Billing::PerMille => self.config.reserve_per_mille_micros,
            };
            let paced = self.pacers.bid(index, index.ads[ad].group, &self.spending, request.now);
            let effective = paced.map_or(Micros::ZERO, |p| bowerbird_auction::paced_bid(p.bid, p.pacing));
            let Some(paced) = paced.filter(|_| effective >= reserve) else {
                let bid = effective;
                funnel.stop(ad, Reason::BelowReserve { bid, reserve });
                continue;
            };
            let Match { ad, keyword, cosine } = matched;
            let (log_odds, relevance) = (relevance.log_odds, relevance.score);
            let explored = drawn.is_some();
            passed.push(Scored {
                ad,
                keyword,
                cosine,
                logit,
                log_odds,
                relevance,
                estimate,
                click_probability,
                paced,
                explored,
                wording: None,
            });
        }
        Ok((passed, degraded))
    }

    fn blocks(
        &self,
        request: &AdRequest,
        index: &AdIndex,
        scored: &[Scored],
        won: &[Won],
    ) -> Result<Vec<SponsoredBlock>, AdsError> {
        let keys = self.keys();
        let mut blocks = Vec::with_capacity(won.len());
        for Won { award, exposure, .. } in won {
            let Some(winner) = scored.iter().find(|scored| index.ads[scored.ad].id == award.id) else {
                continue;
            };
            tracing::debug!(
                auction_id = %request.auction_id, ad = %award.id, slot = award.slot, price = %award.price,
                relevance = winner.relevance.get(), cosine = winner.cosine, logit = winner.logit.get(), "ad served"
            );
            let expected = match award.billing {
                Billing::PerClick => {
                    award.price.0 as f64 * winner.click_probability.get() * exposure * 1000.0
                }
                Billing::PerMille => award.price.0 as f64,
            };
            let ad = &index.ads[winner.ad];
            let advertiser = index.advertiser_of(winner.ad);
            let ttl = self.config.time_to_live;
            let wording = winner.wording.as_deref();
            self.wordings.count_shown(wording);
            let token = |kind, ttl| {
                keys.sign(&Payload {
                    kind,
                    billed: billed(award.billing),
                    auction_id: request.auction_id,
                    slot: u8::try_from(award.slot).unwrap_or(u8::MAX),
                    ad_id: ad.id.clone(),
                    ad_version: ad.version,
                    price: award.price_of_event(),
                    decided_ms: millis(request.now),
                    expires_ms: millis_after(request.now, ttl),
                    destination: destination_hash(&ad.landing_url),
                })
            };
            blocks.push(SponsoredBlock {
                r#type: SponsoredBlock::TYPE,
                label: SponsoredBlock::LABEL,
                auction_id: request.auction_id,
                ad_id: ad.id.clone(),
                advertiser: advertiser.name.clone(),
                paid_by: advertiser.paid_by.clone(),
                headline: ad.headline.clone(),
                text: wording.map_or(&ad.text, |wording| &wording.draft.text).clone(),
                display_url: ad.display_url.clone(),
                why: why(winner.keyword.as_ref()),
                click_url: format!("/e/c/{}", token(Kind::Click, ttl.click)?),
                impression_url: format!("/e/i/{}", token(Kind::Impression, ttl.impression)?),
                slot: award.slot,
                wording: wording.map(Wording::in_block),
                sold: Sold {
                    advertiser_id: advertiser.id.clone(),
                    version: ad.version,
                    domain: host(&ad.landing_url).unwrap_or_default(),
                    expected_per_mille: Micros(expected as i64),
                },
            });
        }
        Ok(blocks)
    }
}

/// Leaves out ads that stand on the page, and others of their advertisers that were called up with them.
fn keep_apart(index: &AdIndex, beside: &[String], matches: &mut Vec<Match>, funnel: &mut Funnel) {
    let there = |matched: &&Match| beside.contains(&index.ads[matched.ad].id);
    let advertisers: HashSet<&str> =
        matches.iter().filter(there).map(|matched| index.advertiser_of(matched.ad).id.as_str()).collect();
    matches.retain(|matched| {
        let apart = !advertisers.contains(index.advertiser_of(matched.ad).id.as_str());
        if !apart {
            funnel.stop(matched.ad, Reason::SameAdvertiser);
        }
        apart
    });
}

fn host(landing_url: &str) -> Option<String> {
    Some(url::Url::parse(landing_url).ok()?.host_str()?.to_owned())
}

/// Whether the landing page lies under one of `domains`.
fn blocked(landing_url: &str, domains: &[String]) -> bool {
    if domains.is_empty() {
        return false;
    }
    let Some(host) = host(landing_url) else { return true };
    let under = |domain: &String| {
        host == *domain || host.strip_suffix(domain.as_str()).is_some_and(|rest| rest.ends_with('.'))
    };
    domains.iter().any(under)
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
    if request.explain {
        for campaign in 0..index.campaigns.len() {
            funnel.stop_campaign(campaign, Reason::Refused);
        }
    }
    let explain = request.explain.then(|| funnel.explain(index));
    Slate { auction_id: request.auction_id, no_fill: Some(reason), explain, ..Slate::default() }
}
