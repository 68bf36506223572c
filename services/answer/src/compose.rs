//! Evidence to an answer, sentence by sentence: restate, check, send; what fails the check is quoted instead.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bowerbird_models_api::Generator;
use bowerbird_scheduler::{Encoders, Job, Priority};
use metrics::{counter, histogram};
use tokio::sync::mpsc;

use crate::check::{Limits, Reason, Support, check};
use crate::config::AnswerConfig;
use crate::evidence::{Evidence, Relevance, candidates, select};
use crate::generate::{DraftError, draft};
use crate::injection::addresses_the_reader_machine;
use crate::prompt::messages;
use crate::render::{Placer, render};
use crate::text::{containment, content_stems, normal, tokens};
use crate::types::{
    Answer, AnswerError, AnswerEvent, AnswerRequest, FinishReason, Nearest, Origin, Sentence, StillThere,
    Summary, Usage, Verdict,
};

/// Longest question, in bytes.
pub const MAX_QUESTION_BYTES: usize = 4_096;
/// Most sentences of an answer, whatever a request asks for; with `Sources` and `Done` they fit into the channel.
pub const MAX_SENTENCES: usize = 10;
/// A sentence whose content words were said to this share is not said again.
const ALREADY_SAID: f32 = 0.8;
/// Passages named in a refusal.
const NEAREST: usize = 3;

/// Writes answers. Cheap to clone.
#[derive(Clone)]
pub struct Answerer {
    inner: Arc<Inner>,
}

struct Inner {
    generator: Arc<dyn Generator>,
    encoders: Encoders,
    config: AnswerConfig,
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

/// What was said so far, and what it cost.
struct Progress<'a> {
    started: Instant,
    events: &'a mpsc::Sender<AnswerEvent>,
    placer: Placer,
    said: BTreeSet<String>,
    sent: usize,
    usage: Usage,
    degraded: BTreeSet<&'static str>,
    still_there: StillThere,
}

impl Progress<'_> {
    fn repeats(&self, stems: &BTreeSet<String>) -> bool {
        self.sent > 0 && containment(stems, &self.said) >= ALREADY_SAID
    }

    /// Sends a sentence; false when the post it cites has gone meanwhile.
    async fn send(&mut self, text: String, support: &Support, origin: Origin, evidence: &Evidence) -> bool {
        let citations = vec![evidence.citation()];
        if !self.still_there.holds(&citations) {
            self.usage.dropped += 1;
            return false;
        }
        let (start, end) = self.placer.place(&text, &citations);
        self.said.extend(content_stems(&tokens(&text)));
        if self.sent == 0 {
            let elapsed = self.started.elapsed();
            histogram!("bowerbird_answer_first_sentence_seconds").record(elapsed.as_secs_f64());
            self.usage.first_sentence_ms = Some(millis(elapsed));
        }
        self.sent += 1;
        let (verdict, probability) = (support.verdict, support.probability);
        let sentence = Sentence { text, start, end, citations, verdict, probability, origin };
        // A closed channel ends the whole composition (see `stream`).
        let _ = self.events.send(AnswerEvent::Sentence(sentence)).await;
        true
    }

    async fn finish(mut self, finish_reason: FinishReason, reason: Option<String>, nearest: Vec<Nearest>) {
        if finish_reason == FinishReason::RefusedNoEvidence {
            counter!("bowerbird_answer_refusals_total").increment(1);
        }
        self.usage.total_ms = millis(self.started.elapsed());
        let degraded = self.degraded.into_iter().collect();
        let done = Summary { finish_reason, reason, nearest, degraded, usage: self.usage };
        let _ = self.events.send(AnswerEvent::Done(done)).await;
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn count(origin: Origin, support: &Support) {
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
        for item in evidence {
            if progress.sent == wanted {
                break;
            }
            if Instant::now() >= request.deadline {
                return FinishReason::Deadline;
            }
            if progress.repeats(&item.stems) || !(request.still_there.0)(item.n) {
                continue;
            }
            let mut drafted = false;
            if generating {
                match self.restate(request, item, progress).await {
                    Ok(Restated::Supported(text, support)) => {
                        if progress.repeats(&content_stems(&tokens(&text)).into_iter().collect()) {
                            progress.usage.dropped += 1;
                        } else if progress.send(text, &support, Origin::Generated, item).await {
                            progress.usage.generated += 1;
                        }
                        continue;
                    }
                    Ok(Restated::Rejected) => drafted = true,
                    Err(error) => {
                        // No second try within one answer: what failed or was slow once would cost the reader again.
                        generating = false;
                        progress.degraded.insert("generate");
                        tracing::warn!(%error, generator = self.generator.name(), "quoting instead of generating");
                    }
                }
            }
            let support = check(&item.quote, &[&item.sentence], None, &Limits::from(&self.config));
            count(Origin::Extracted, &support);
            if support.verdict == Verdict::Supported {
                if progress.send(item.quote.clone(), &support, Origin::Extracted, item).await {
                    progress.usage.replaced += usize::from(drafted);
                }
            } else {
                progress.usage.dropped += 1;
            }
        }
        FinishReason::Stop
    }

    /// One generated sentence from one piece of evidence, checked.
    async fn restate(
        &self,
        request: &AnswerRequest,
        evidence: &Evidence,
        progress: &mut Progress<'_>,
    ) -> Result<Restated, DraftError> {
        let left = request.deadline.saturating_duration_since(Instant::now());
        if left < self.config.generate_from {
            return Err(DraftError::Deadline);
        }
        let deadline = request.deadline.checked_sub(self.config.check_time).unwrap_or(request.deadline);
        let messages = messages(&[(evidence.n, evidence.quote.as_str())]);
        let tokens = self.config.sentence_tokens;
        let draft = draft(self.generator.as_ref(), messages, tokens, request.seed, deadline).await?;
        progress.usage.prompt_tokens += draft.prompt_tokens;
        progress.usage.generated_tokens += draft.generated_tokens;
        let Some(text) = draft.sentence.filter(|text| !addresses_the_reader_machine(text)) else {
            return Ok(Restated::Rejected);
        };

        let limits = Limits::from(&self.config);
        let job = Job { priority: Priority::AnswerCheck, deadline: Some(request.deadline) };
        let (quote, said): ([Arc<str>; 1], [Arc<str>; 1]) =
            ([evidence.quote.as_str().into()], [text.as_str().into()]);
        let (supports, answers) = tokio::join!(
            self.encoders.score(&text, &quote, job),
            self.encoders.score(&request.question, &said, job)
        );
        let scores = supports.into_iter().chain(answers).collect::<Result<Vec<_>, _>>();
        let (logit, relevance) = match scores.as_deref() {
            Ok([logit, relevance]) => (Some(logit.get()), Some(relevance.get())),
            Ok(_) => (None, None),
            Err(error) => {
                progress.degraded.insert("check");
                tracing::warn!(%error, "a generated sentence was not scored, so it is not used");
                (None, None)
            }
        };
        let mut support = check(&text, &[&evidence.quote], logit, &limits);
        let needed = evidence.relevance.logit().map(|logit| logit - self.config.max_relevance_loss);
        let about = relevance
            .zip(needed)
            .is_some_and(|(found, needed)| found >= needed.max(self.config.min_relevance_logit));
        if !about {
            // Supported or not, it does not answer; without an opinion of the cross-encoder it is not sent either.
            support.verdict = Verdict::Unsupported;
            support.reasons.push(Reason::Relevance);
        }
        count(Origin::Generated, &support);
        tracing::debug!(evidence = evidence.quote, text, ?support, "checked a generated sentence");
        if support.verdict == Verdict::Supported {
            Ok(Restated::Supported(text, support))
        } else {
            Ok(Restated::Rejected)
        }
    }
}

/// Outcome of [`Inner::restate`].
enum Restated {
    Supported(String, Support),
    Rejected,
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
