//! A query with its ads, and a question with its answer: what the command line and the server share.
//!
//! A page is complete before an ad is looked for. The ads that fit an answer are looked for while it is written, by calls
//! that share nothing with it but the threads of the models. So no ad can touch a score, an order or a word.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use bowerbird_ads::{
    AdRequest, AdsError, Contest, Degraded, Device, MAX_BESIDE_ADS, Neighbour, Place, Slate,
};
use bowerbird_answer::{AnswerRequest, Source, StillThere};
use bowerbird_live::LiveError;
use bowerbird_posts::{Ordinal, PostId, StoreError};
use bowerbird_search::{Hit, ResultPage, SearchRequest};
use jiff::Timestamp;
use uuid::Uuid;

use crate::answers::Key;
use crate::http::problem::Problem;
use crate::stack::Stack;
use crate::wire::ads::{DecideBody, Sponsored};
use crate::wire::answer::AnswerBody;
use crate::wire::search::{SearchBody, SearchPage, page};
use crate::wire::suggest::DidYouMean;

/// A page, with its sponsored part when asked for.
pub async fn search(stack: &Stack, body: &SearchBody, request_id: &str) -> Result<SearchPage, Problem> {
    let request = body.request(stack.engine.config())?;
    let (organic, did_you_mean) = tokio::join!(stack.engine.search(&request), did_you_mean(stack, body));
    let organic = organic?;
    let ads = if body.ads && body.cursor.is_none() {
        sponsored(stack, &organic.query.text, beside(&organic.hits), body.explain).await
    } else {
        None
    };
    Ok(SearchPage { did_you_mean, ..page(organic, body.explain, ads, request_id.to_owned()) })
}

/// What was probably meant, on the first page. A search does not fail for want of it.
async fn did_you_mean(stack: &Stack, body: &SearchBody) -> Option<DidYouMean> {
    if body.cursor.is_some() {
        return None;
    }
    let meant = stack.suggester.did_you_mean(&body.q, body.filter.as_deref()).await;
    // What is wrong with the query is told by the search itself.
    meant.inspect_err(|error| tracing::debug!(%error, "no correction")).ok()?.map(DidYouMean::from)
}

/// A question with what was found for it.
pub struct Question {
    /// The posts an answer is written from.
    pub found: ResultPage,
    /// What the answer is asked with.
    pub request: AnswerRequest,
    /// What a kept answer is found by; none when a post has changed meanwhile.
    pub key: Option<Key>,
    /// Most time of the answer.
    pub timeout: Duration,
}

/// Most time of an answer: what the caller gives, 1 ms to two minutes, else as configured.
pub fn answer_time(stack: &Stack, timeout_ms: Option<u64>) -> Duration {
    timeout_ms.map_or(stack.config.answer.timeout, |ms| Duration::from_millis(ms.clamp(1, 120_000)))
}

/// The posts an answer is written from, and the request for it.
pub async fn question(stack: &Stack, body: &AnswerBody) -> Result<Question, Problem> {
    let settings = &stack.config.answer;
    let timeout = answer_time(stack, body.timeout_ms);
    let deadline = Instant::now() + timeout;
    if let Some(found) = body.max_sentences.filter(|n| !(1..=10).contains(n)) {
        let message = format!("max_sentences is {found}, expected 1 to 10");
        return Err(Problem::invalid("max_sentences_out_of_range", "max_sentences", message));
    }
    if let Some(found) = Some(body.beside_ads.len()).filter(|found| *found > MAX_BESIDE_ADS) {
        return Err(AdsError::TooManyAds { limit: MAX_BESIDE_ADS, found }.into());
    }
    let request = SearchRequest {
        filter: body.filter.clone(),
        limit: settings.sources,
        timeout: Some(timeout),
        ..SearchRequest::new(&body.q)
    };
    let found = stack.engine.search(&request).await?;
    if found.query.text.is_empty() {
        return Err(Problem::invalid("empty_query", "q", "q has operators but no words: ask something"));
    }
    let sources: Vec<Source> = found
        .hits
        .iter()
        .zip(1..)
        .map(|(hit, n)| Source {
            n,
            post_id: hit.post.id.to_string(),
            author: hit.post.author.clone(),
            created_at: hit.post.created_at,
            text: hit.post.text.clone(),
            score: hit.scores.r#final,
        })
        .collect();
    let (versions, still_there) = standing(stack, &found.hits).await?;
    let max_sentences = body.max_sentences.unwrap_or(settings.compose.max_sentences);
    let question = found.query.text.clone();
    let key = stack.answers.key(&question, body.filter.as_deref(), max_sentences, &sources, &versions);
    let request = AnswerRequest { question, sources, deadline, max_sentences, seed: 0, still_there };
    Ok(Question { found, request, key, timeout })
}

/// The versions of the posts of `hits`, none where one has changed since; and whether the post of the `n`th stands as
/// it was found: false once it is deleted or edited.
async fn standing(stack: &Stack, hits: &[Hit]) -> Result<(Vec<Option<Ordinal>>, StillThere), Problem> {
    let wanted: Vec<(PostId, String)> =
        hits.iter().map(|hit| (hit.post.id.clone(), hit.post.text.clone())).collect();
    let live = stack.live.clone();
    let found = tokio::task::spawn_blocking(move || {
        let version = |(id, text): &(PostId, String)| {
            // An edit since the search makes it another version: then the hit stands for nothing any more.
            Ok(live.store().get(id)?.filter(|stored| stored.post.text == *text).map(|stored| stored.ordinal))
        };
        wanted.iter().map(version).collect::<Result<Vec<Option<Ordinal>>, StoreError>>()
    });
    let versions = found
        .await
        .map_err(|error| Problem::internal(&error))?
        .map_err(|error| Problem::from(LiveError::from(error)))?;
    let live = stack.live.clone();
    let known = versions.clone();
    let still_there = StillThere(Arc::new(move |n| {
        let version = n.checked_sub(1).and_then(|at| known.get(at).copied().flatten());
        version.is_some_and(|ordinal| live.is_live(ordinal))
    }));
    Ok((versions, still_there))
}

/// The answerer, or the problem that there is none.
pub fn answerer(stack: &Stack) -> Result<&bowerbird_answer::Answerer, Problem> {
    stack.answerer.as_ref().ok_or_else(|| {
        Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "internal",
            "no_generator",
            "no generator is loaded: set [generator] in the configuration",
        )
    })
}

/// The posts that a sponsored block would stand beside: blocks stand at the head of a page, so the first three hits are
/// their neighbours.
pub fn beside(hits: &[Hit]) -> Vec<Neighbour> {
    let neighbour = |hit: &Hit| Neighbour { author: hit.post.author.clone(), text: hit.post.text.clone() };
    hits.iter().take(3).map(neighbour).collect()
}

/// Sponsored blocks for `text`; `None` when ads are off. A failed decision is an empty slot with its reason, never a
/// failed page.
pub async fn sponsored(
    stack: &Stack,
    text: &str,
    beside: Vec<Neighbour>,
    explain: bool,
) -> Option<Sponsored> {
    let body = DecideBody { slots: stack.config.ads.slots, explain, ..DecideBody::new(text) };
    match decide(stack, &body, beside).await {
        Ok(sponsored) => Some(sponsored),
        Err(error) => {
            tracing::warn!(error = %error, "no ad decision");
            None
        }
    }
}

/// Writes `answer` and looks meanwhile for the ads that are `wanted`, if any, from the moment of `begin` on: nothing of an
/// ad is known to the answer, and nothing is held for one until the answer is there ([`below`]).
pub async fn with_ads<A>(
    stack: &Stack,
    wanted: Option<AdRequest>,
    begin: impl Future<Output = ()>,
    answer: impl Future<Output = A>,
) -> (A, Option<Looked>) {
    let (Some(ads), Some(wanted)) = (&stack.ads, wanted) else { return (answer.await, None) };
    let auction_id = wanted.auction_id;
    let looking = async {
        begin.await;
        ads.contest(wanted).await
    };
    let (mut answer, mut looking) = (pin!(answer), pin!(looking));
    let mut found = None;
    let answer = loop {
        tokio::select! {
            answer = &mut answer => break answer,
            contest = &mut looking, if found.is_none() => found = Some(contest),
        }
    };
    let ended = Instant::now();
    let found = match found {
        Some(found) => Some(found),
        None => tokio::time::timeout(stack.config.ads.timeout, looking).await.ok(),
    };
    (answer, Some(Looked { auction_id, ended, found }))
}

/// The ads that were found while an answer was written.
pub struct Looked {
    auction_id: Uuid,
    /// When the answer was there.
    ended: Instant,
    /// None when there was not enough time.
    found: Option<Result<Contest, AdsError>>,
}

/// The sponsored blocks below an answer with this text. A failed decision is an empty slot, never a failed answer.
pub async fn below(stack: &Stack, looked: Option<Looked>, answer: &str) -> Option<Sponsored> {
    let Looked { auction_id, ended, found } = looked?;
    let ads = stack.ads.as_ref()?;
    let settled = match found {
        Some(Ok(contest)) => ads.settle(contest.below(answer, Timestamp::now())).await,
        Some(Err(error)) => Err(error),
        None => Ok(Slate { auction_id, degraded: Some(Degraded::Relevance), ..Slate::default() }),
    };
    let settled = settled.inspect_err(|error| tracing::warn!(%error, "no ad decision"));
    metrics::histogram!("bowerbird_answer_ads_seconds").record(ended.elapsed().as_secs_f64());
    Some(Sponsored::new(&settled.ok()?, ended.elapsed()))
}

/// A request for the places below the answer to `asked`, written from posts of which `beside` are the first; none of an
/// advertiser that has one of `beside_ads` on the page.
pub fn answer_ads(
    stack: &Stack,
    asked: &AnswerRequest,
    beside: Vec<Neighbour>,
    beside_ads: Vec<String>,
) -> AdRequest {
    AdRequest {
        slots: stack.config.ads.slots,
        place: Place::Answer,
        beside,
        beside_ads,
        deadline: Some(asked.deadline),
        ..AdRequest::new(&asked.question, Timestamp::now(), Uuid::now_v7())
    }
}

/// One ad decision.
pub async fn decide(stack: &Stack, body: &DecideBody, beside: Vec<Neighbour>) -> Result<Sponsored, Problem> {
    let ads = stack.ads.as_ref().ok_or_else(|| {
        Problem::new(StatusCode::NOT_FOUND, "not_found", "ads_off", "ads are off: set ads.enabled = true")
    })?;
    if !(1..=2).contains(&body.slots) {
        let message = format!("slots is {}, expected 1 or 2", body.slots);
        return Err(Problem::invalid("slots_out_of_range", "slots", message));
    }
    if body.q.len() > 4096 {
        let message = format!("q has {} bytes, the limit is 4096: send the query or a summary", body.q.len());
        return Err(Problem::invalid("query_too_long", "q", message));
    }
    let device = body.device.as_deref().map(|name| {
        Device::parse(name).ok_or_else(|| {
            let message = format!("device is {name:?}, expected desktop, phone, tablet or tv");
            Problem::invalid("unknown_device", "device", message)
        })
    });
    let device = device.transpose()?;
    let begun = Instant::now();
    let slate = ads
        .decide(AdRequest {
            lang: body.lang.clone(),
            country: body.country.clone(),
            device,
            user: body.user.clone(),
            topics: body.topics.clone(),
            slots: body.slots,
            beside,
            beside_ads: body.beside_ads.clone(),
            page_sensitive: body.page_sensitive,
            test: body.test,
            explain: body.explain,
            deadline: Some(begun + stack.config.ads.timeout),
            ..AdRequest::new(&body.q, Timestamp::now(), Uuid::now_v7())
        })
        .await?;
    Ok(Sponsored::new(&slate, begun.elapsed()))
}
