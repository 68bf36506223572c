//! Evidence to an answer, sentence by sentence: restate, check, send; what fails the check is quoted instead.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use bowerbird_models_api::Generator;
use bowerbird_scheduler::{Encoders, Job, Priority};
use metrics::counter;
use tokio::sync::mpsc;

use crate::check::{Limits, Support, check};
use crate::config::AnswerConfig;
use crate::conflict::grouped;
use crate::evidence::{Evidence, Relevance, candidates, select};
use crate::progress::{Outcome, Progress};
use crate::render::{Placer, Side, lead, render, settle_leads};
use crate::restate::Restated;
use crate::text::{content_stems, normal, tokens};
use crate::types::{
    Answer, AnswerError, AnswerEvent, AnswerRequest, FinishReason, Nearest, Origin, StillThere, Summary,
    Usage, Verdict,
};

/// Longest question, in bytes.
pub const MAX_QUESTION_BYTES: usize = 4_096;
/// Most sentences of an answer, whatever a request asks for; with `Sources` and `Done` they fit into the channel.
pub const MAX_SENTENCES: usize = 10;
/// Passages named in a refusal.
const NEAREST: usize = 3;

/// Writes answers. Cheap to clone.
#[derive(Clone)]
pub struct Answerer {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) generator: Arc<dyn Generator>,
    pub(crate) encoders: Encoders,
    pub(crate) config: AnswerConfig,
}

impl Answerer {
    /// An answerer over these models. `config` should have been [validated](AnswerConfig::validate).
    pub fn new(generator: Arc<dyn Generator>, encoders: Encoders, config: AnswerConfig) -> Self {
        Self { inner: Arc::new(Inner { generator, encoders, config }) }
    }

    /// Starts an answer. Must be called within a tokio runtime; dropping the receiver stops all model work for it.
    pub fn stream(&self, request: AnswerRequest) -> mpsc::Receiver<AnswerEvent> {
        let (events, receiver) = mpsc::channel(MAX_SENTENCES + 2);
        let inner = Arc::clone(&self.inner);
        tokio::spawn(async move {
            // The composing future owns every stream and every pending score: dropping it cancels them.
            tokio::select! {
                () = events.closed() => {}
                () = inner.compose(request, &events) => {}
            }
        });
        receiver
    }

    /// The whole answer at once.
    pub async fn answer(&self, request: AnswerRequest) -> Answer {
        let still_there = request.still_there.clone();
        collect(self.stream(request), &still_there).await
    }
}

/// The events of an answer, put together. What cites a post that has gone meanwhile is left out.
pub async fn collect(mut events: mpsc::Receiver<AnswerEvent>, still_there: &StillThere) -> Answer {
    let (mut sources, mut sentences) = (Vec::new(), Vec::new());
    let ended = loop {
        match events.recv().await {
            Some(AnswerEvent::Sources(given)) => sources = given,
            Some(AnswerEvent::Sentence(sentence)) => sentences.push(sentence),
            Some(AnswerEvent::Done(summary)) => break Ok(summary),
            Some(AnswerEvent::Error(error)) => break Err(error),
            None => break Err(AnswerError::Stopped),
        }
    };
    let (mut summary, error) = match ended {
        Ok(summary) => (summary, None),
        Err(error) => (summary(FinishReason::Error, Some(error.to_string())), Some(error)),
    };
    // Posts may have gone since their sentence was checked; what cites them goes, and the rest moves up.
    sources.retain(|source| (still_there.0)(source.n));
    summary.nearest.retain(|passage| (still_there.0)(passage.n));
    let written = sentences.len();
    sentences.retain(|sentence| still_there.holds(&sentence.citations));
    if sentences.len() < written {
        settle_leads(&mut sentences);
        let mut placer = Placer::default();
        for sentence in &mut sentences {
            (sentence.start, sentence.end) = placer.place(&sentence.text, &sentence.citations);
        }
    }
    Answer { text: render(&sentences), sentences, sources, summary, error }
}

fn summary(finish_reason: FinishReason, reason: Option<String>) -> Summary {
    Summary { finish_reason, reason, nearest: Vec::new(), degraded: Vec::new(), usage: Usage::default() }
}

fn validate(request: &AnswerRequest) -> Result<(), AnswerError> {
    if request.question.len() > MAX_QUESTION_BYTES {
        return Err(AnswerError::QuestionTooLong {
            limit: MAX_QUESTION_BYTES,
            found: request.question.len(),
        });
    }
    if normal(&request.question).trim().is_empty() {
        return Err(AnswerError::BlankQuestion);
    }
    let mut numbers = BTreeSet::new();
    match request.sources.iter().find(|source| !numbers.insert(source.n)) {
        Some(source) => Err(AnswerError::DuplicateSource { n: source.n }),
        None => Ok(()),
    }
}

pub(crate) fn count(origin: Origin, support: &Support) {
    let labels = [("origin", origin.as_str()), ("verdict", support.verdict.as_str())];
    counter!("bowerbird_answer_sentences_total", &labels).increment(1);
    if support.verdict != Verdict::Supported {
        for reason in &support.reasons {
            counter!("bowerbird_answer_rejections_total", "reason" => reason.as_str()).increment(1);
        }
    }
}

impl Inner {
    async fn compose(&self, request: AnswerRequest, events: &mpsc::Sender<AnswerEvent>) {
        let started = Instant::now();
        if let Err(error) = validate(&request) {
            let _ = events.send(AnswerEvent::Error(error)).await;
            return;
        }
        let _ = events.send(AnswerEvent::Sources(request.sources.clone())).await;
        let mut progress = Progress {
            started,
            events,
            placer: Placer::default(),
            said: BTreeSet::new(),
            sent: 0,
            conflicts: 0,
            usage: Usage::default(),
            degraded: BTreeSet::new(),
            still_there: request.still_there.clone(),
        };

        let mut scored = self.score(&request, &mut progress).await;
        scored.retain(|evidence| (request.still_there.0)(evidence.n));
        let nearest = nearest(&scored);
        let found = scored.len();
        let evidence = select(scored, &self.config);
        if evidence.is_empty() {
            let reason = refusal(request.sources.len(), found);
            progress.finish(FinishReason::RefusedNoEvidence, Some(reason), nearest).await;
            return;
        }

        let finish_reason = self.write(&request, &evidence, &mut progress).await;
        progress.finish(finish_reason, None, Vec::new()).await;
    }

    /// The candidate sentences with their relevance: the cross-encoder's where it answers in time. When it gives no
    /// opinion at all, the share of shared words stands in; a candidate it alone leaves out is dropped, because the
    /// two scales do not mix.
    async fn score(&self, request: &AnswerRequest, progress: &mut Progress<'_>) -> Vec<Evidence> {
        let mut open = candidates(&request.question, &request.sources, &self.config);
        if open.is_empty() {
            return open;
        }
        let passages: Vec<Arc<str>> = open.iter().map(|e| Arc::from(e.quote.as_str())).collect();
        // Half of the time is kept for writing.
        let now = Instant::now();
        let deadline = now + request.deadline.saturating_duration_since(now) / 2;
        let job = Job { priority: Priority::AnswerCheck, deadline: Some(deadline) };
        let logits = self.encoders.score(&request.question, &passages, job).await;
        let mut failed = None;
        let mut scored = Vec::with_capacity(open.len());
        for (at, logit) in logits.into_iter().enumerate() {
            match logit {
                Ok(logit) => {
                    if let Some(evidence) = open.get(at) {
                        scored.push(evidence.clone().with_logit(logit.get()));
                    }
                }
                Err(error) => failed = Some(error),
            }
        }
        if let Some(error) = failed {
            progress.degraded.insert("evidence");
            tracing::warn!(error = %error, scored = scored.len(), of = open.len(), "evidence was not scored in full");
        }
        if scored.is_empty() { std::mem::take(&mut open) } else { scored }
    }

    async fn write(
        &self,
        request: &AnswerRequest,
        evidence: &[Evidence],
        progress: &mut Progress<'_>,
    ) -> FinishReason {
        let wanted =
            if request.max_sentences == 0 { self.config.max_sentences } else { request.max_sentences };
        let wanted = wanted.min(MAX_SENTENCES);
        let mut generating = self.config.generate;
        for group in grouped(evidence) {
            if progress.sent == wanted {
                break;
            }
            if Instant::now() >= request.deadline {
                return FinishReason::Deadline;
            }
            let [item] = *group.as_slice() else {
                self.show_conflict(&group, wanted, progress).await;
                continue;
            };
            if progress.repeats(&item.stems) || !(request.still_there.0)(item.n) {
                continue;
            }
            let mut drafted = false;
            if generating {
                match self.restate(request, item, progress).await {
                    Ok(Restated::Supported { text, support, again }) => {
                        if progress.repeats(&content_stems(&tokens(&text)).into_iter().collect()) {
                            progress.drop_one();
                        } else if progress.send(text, None, &support, Origin::Generated, item).await {
                            progress.count(if again { Outcome::Regenerated } else { Outcome::Generated });
                        }
                        continue;
                    }
                    Ok(Restated::Rejected { .. }) => drafted = true,
                    Err(error) => {
                        // No second try within one answer: what failed or was slow once would cost the reader again.
                        generating = false;
                        progress.degraded.insert("generate");
                        tracing::warn!(%error, generator = self.generator.name(), "quoting instead of generating");
                    }
                }
            }
            match self.quotation(item) {
                Some(support) => {
                    let sent =
                        progress.send(item.quote.clone(), None, &support, Origin::Extracted, item).await;
                    if sent && drafted {
                        progress.count(Outcome::Replaced);
                    }
                }
                None => progress.drop_one(),
            }
        }
        FinishReason::Stop
    }

    /// The check's opinion of a quotation, when it may be sent.
    fn quotation(&self, item: &Evidence) -> Option<Support> {
        let support = check(&item.quote, &[&item.sentence], None, &Limits::from(&self.config));
        count(Origin::Extracted, &support);
        (support.verdict == Verdict::Supported).then_some(support)
    }

    /// Quotes posts that disagree, newest first, each with its date. Where there is room for one sentence only, the
    /// newest stands with the same warning.
    async fn show_conflict(&self, group: &[&Evidence], wanted: usize, progress: &mut Progress<'_>) {
        let standing = group.iter().filter(|item| (progress.still_there.0)(item.n));
        let sides: Vec<(&Evidence, Support)> =
            standing.filter_map(|item| Some((*item, self.quotation(item)?))).collect();
        let room = wanted - progress.sent;
        if sides.len() > 1 && room == 1 && progress.sent > 0 {
            // One side alone would mislead, and there is an answer already.
            progress.drop_one();
            return;
        }
        let conflict = (sides.len() > 1).then(|| progress.next_conflict());
        for (at, (item, support)) in sides.into_iter().take(room).enumerate() {
            let side = conflict.map(|conflict| Side { conflict, lead: lead(at == 0, item.created_at) });
            let sent = progress.send(item.quote.clone(), side, &support, Origin::Extracted, item).await;
            if sent && conflict.is_some() {
                progress.count(Outcome::Conflicting);
            }
        }
    }
}

fn nearest(scored: &[Evidence]) -> Vec<Nearest> {
    let key = |e: &Evidence| match e.relevance {
        Relevance::Logit(value) | Relevance::Words(value) => value,
    };
    let mut order: Vec<&Evidence> = scored.iter().collect();
    order.sort_by(|a, b| key(b).total_cmp(&key(a)).then(a.n.cmp(&b.n)).then(a.span.start.cmp(&b.span.start)));
    let named = order.into_iter().take(NEAREST).map(|e| {
        let citation = e.citation();
        Nearest { n: e.n, post_id: citation.post_id, quote: citation.quote, relevance: e.relevance.logit() }
    });
    named.collect()
}

fn refusal(sources: usize, sentences: usize) -> String {
    match (sources, sentences) {
        (0, _) => "no posts were found for this question".to_owned(),
        (_, 0) => format!("the {sources} posts found state nothing that could be quoted"),
        _ => format!("none of the {sources} posts found says enough about this question"),
    }
}

#[cfg(test)]
#[path = "compose_tests.rs"]
mod tests;
