//! Which ads a request calls up, among those that are for it: by keyword, by meaning, and never against a negative
//! keyword or a frequency cap.
//!
//! The result is that of looking at every ad: int8 codes give bounds that the true cosine never exceeds, the ads are
//! taken in the order of their bounds, and the search ends when no bound can reach what was found. Reasons for the
//! ads that were not found are worked out one by one, and only when somebody asks.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap, HashSet};

use bowerbird_models_api::{Embedding, ModelError};
use roaring::RoaringBitmap;

use crate::audience::Audience;
use crate::caps::{Caps, UserHash};
use crate::eligibility::{campaign_stop, stop, topic_stop};
use crate::explain::{Funnel, Reason};
use crate::keywords::{Hit, KeywordMatch};
use crate::snapshot::{Snapshot, campaign_held};
use crate::text::QueryWords;

/// What is asked, and of whom.
pub(crate) struct Question<'a> {
    pub query: &'a QueryWords,
    pub embedding: &'a Embedding,
    pub user: Option<UserHash>,
    pub caps: &'a Caps,
    /// Unix seconds.
    pub now: i64,
    /// Most ads to find.
    pub limit: usize,
}

/// An ad that keyword or meaning called up.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Match {
    /// Position of the ad.
    pub ad: usize,
    pub keyword: Option<KeywordMatch>,
    pub cosine: f32,
}

/// The ads of `eligible`, a set of places, that the question calls up, closest first, at most as many as it allows.
///
/// Order: keyword type (exact, phrase, broad, none), then cosine, then position. Fails when the embedding is not of the
/// ads' space.
pub(crate) fn find(
    snapshot: &Snapshot,
    eligible: &RoaringBitmap,
    question: &Question<'_>,
) -> Result<Vec<Match>, ModelError> {
    let index = &*snapshot.ads;
    let Some(vectors) = &snapshot.vectors else { return Ok(Vec::new()) };
    check_dim(vectors.dim(), question.embedding)?;
    let asked = index.keywords.ask(question.query);
    let is_eligible = |ad: &usize| eligible.contains(snapshot.place_of[*ad]);
    let hits = index.keywords.matches(&asked, |group| index.groups[group].ads.iter().any(is_eligible));
    let mut called: Vec<(u32, &Hit<'_>)> = hits
        .iter()
        .flat_map(|hit| index.groups[hit.group].ads.iter().map(move |ad| (snapshot.place_of[*ad], hit)))
        .filter(|(place, _)| eligible.contains(*place))
        .collect();
    called.sort_unstable_by_key(|(place, _)| *place);

    let mut looked_at = eligible & &snapshot.semantic;
    looked_at.extend(called.iter().map(|(place, _)| *place));
    let mut called = called.into_iter().peekable();
    let mut open = Vec::new();
    let scan = vectors.upper_bounds(question.embedding.as_slice(), &looked_at, |place, upper| {
        let hit = called.next_if(|(of, _)| *of == place).map(|(_, hit)| hit);
        let threshold = snapshot.thresholds[place as usize];
        if hit.is_some() || upper >= threshold {
            open.push(Candidate { ad: snapshot.ad_at[place as usize], hit, upper, threshold });
        }
    });
    // The dimension was checked.
    scan.map_err(|_| ModelError::NotFinite)?;

    let mut open = BinaryHeap::from(open);
    let mut found: Vec<(Candidate<'_>, f32)> = Vec::new();
    while let Some(candidate) = open.pop() {
        if found.len() == question.limit
            && found.last().is_none_or(|(worst, cosine)| {
                candidate.kind().cmp(&worst.kind()).then(cosine.total_cmp(&candidate.upper))
                    == Ordering::Greater
            })
        {
            break;
        }
        let at = candidate.ad as usize;
        let cosine = index.ads[at].embedding.cosine(question.embedding)?;
        let matches = candidate.hit.is_some() || cosine >= candidate.threshold;
        if !matches
            || index.keywords.forbidden(index.ads[at].group, &asked).is_some()
            || cap_stop(snapshot, question, at).is_some()
        {
            continue;
        }
        let place = found.partition_point(|(other, better)| {
            let order = other.kind().cmp(&candidate.kind()).then(cosine.total_cmp(better));
            order.then(other.ad.cmp(&candidate.ad)) == Ordering::Less
        });
        found.insert(place, (candidate, cosine));
        found.truncate(question.limit);
    }
    let owned = |(candidate, cosine): (Candidate<'_>, f32)| Match {
        ad: candidate.ad as usize,
        keyword: candidate.hit.map(|hit| hit.owned()),
        cosine,
    };
    Ok(found.into_iter().map(owned).collect())
}

/// An ad whose cosine is known up to a bound.
struct Candidate<'a> {
    ad: u32,
    hit: Option<&'a Hit<'a>>,
    upper: f32,
    /// Least cosine when no keyword calls it up.
    threshold: f32,
}

impl Candidate<'_> {
    fn kind(&self) -> u8 {
        self.hit.map_or(u8::MAX, |hit| hit.match_type as u8)
    }
}

/// The greatest may be the closest match.
impl Ord for Candidate<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let kind = other.kind().cmp(&self.kind());
        kind.then(self.upper.total_cmp(&other.upper)).then(other.ad.cmp(&self.ad))
    }
}
impl PartialOrd for Candidate<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl PartialEq for Candidate<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Candidate<'_> {}

fn check_dim(expected: usize, embedding: &Embedding) -> Result<(), ModelError> {
    if embedding.dim() == expected {
        Ok(())
    } else {
        Err(ModelError::DimensionMismatch { expected, found: embedding.dim() })
    }
}

fn cap_stop(snapshot: &Snapshot, question: &Question<'_>, ad: usize) -> Option<Reason> {
    let scopes = snapshot.scopes(ad);
    if scopes.is_empty() {
        return None;
    }
    let Some(user) = question.user else { return Some(Reason::NoUser) };
    (!question.caps.room(user, &scopes, question.now)).then_some(Reason::FrequencyCap)
}

/// Gives every campaign and ad that is not in `found` the first thing that stopped it. Looks at every ad.
///
/// Without a question the request could not be read: what is for the audience was not scored.
pub(crate) fn explain(
    snapshot: &Snapshot,
    audience: &Audience,
    question: Option<&Question<'_>>,
    found: &[Match],
    funnel: &mut Funnel,
) -> Result<(), ModelError> {
    let index = &*snapshot.ads;
    let found: HashSet<usize> = found.iter().map(|found| found.ad).collect();
    let asked = question.map(|question| index.keywords.ask(question.query));
    let hits = asked.as_ref().map(|asked| index.keywords.matches(asked, |_| true)).unwrap_or_default();
    let hits: HashMap<usize, Hit<'_>> = hits.into_iter().map(|hit| (hit.group, hit)).collect();
    let called_up = |ad: usize, question: &Question<'_>| -> Result<Option<Reason>, ModelError> {
        let group = index.ads[ad].group;
        if let Some(reason) = topic_stop(snapshot.terms(ad).targeting, &audience.topics) {
            return Ok(Some(reason));
        }
        let matches = hits.contains_key(&group)
            || index.groups[group].semantic
                && index.ads[ad].embedding.cosine(question.embedding)?
                    >= snapshot.thresholds[snapshot.place_of[ad] as usize];
        if !matches {
            return Ok(Some(Reason::NoMatch));
        }
        let forbidden = asked.as_ref().and_then(|asked| index.keywords.forbidden(group, asked));
        if let Some(keyword) = forbidden {
            return Ok(Some(Reason::NegativeKeyword { keyword: keyword.to_owned() }));
        }
        Ok(cap_stop(snapshot, question, ad))
    };
    for (at, campaign) in index.campaigns.iter().enumerate() {
        let (starts, ends) = (campaign.starts.as_deref(), campaign.ends.as_deref());
        if let Some(reason) = campaign_stop(campaign_held(index, at), starts, ends, &audience.day) {
            funnel.stop_campaign(at, reason);
            continue;
        }
        for ad in campaign.groups.iter().flat_map(|group| &index.groups[*group].ads).copied() {
            if found.contains(&ad) {
                continue;
            }
            let terms = snapshot.terms(ad);
            let reason = match stop(&terms, audience, snapshot.eligibility.funded(terms.budget)) {
                Some(reason) => Some(reason),
                None => question.map(|question| called_up(ad, question)).transpose()?.flatten(),
            };
            funnel.stop(ad, reason.unwrap_or(Reason::NotScored));
        }
    }
    Ok(())
}
