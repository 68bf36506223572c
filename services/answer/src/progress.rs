//! An answer while it is written: what was said, what it cost, and the sending of sentences.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use metrics::{counter, histogram};
use tokio::sync::mpsc;

use crate::check::Support;
use crate::evidence::Evidence;
use crate::render::{Placer, Side};
use crate::text::{containment, content_stems, tokens};
use crate::types::{AnswerEvent, FinishReason, Nearest, Origin, Sentence, StillThere, Summary, Usage};

/// A sentence whose content words were said to this share is not said again.
const ALREADY_SAID: f32 = 0.8;

/// What became of a sentence that was to be written; see [`Usage`].
#[derive(Clone, Copy)]
pub(crate) enum Outcome {
    Generated,
    Regenerated,
    Replaced,
    Conflicting,
    Dropped,
}

/// What was said so far, and what it cost.
pub(crate) struct Progress<'a> {
    pub started: Instant,
    pub events: &'a mpsc::Sender<AnswerEvent>,
    pub placer: Placer,
    pub said: BTreeSet<String>,
    pub sent: usize,
    pub conflicts: usize,
    pub usage: Usage,
    pub degraded: BTreeSet<&'static str>,
    pub still_there: StillThere,
}

impl Progress<'_> {
    pub fn repeats(&self, stems: &BTreeSet<String>) -> bool {
        self.sent > 0 && containment(stems, &self.said) >= ALREADY_SAID
    }

    /// The number of the next conflict, from 1.
    pub fn next_conflict(&mut self) -> usize {
        self.conflicts += 1;
        self.conflicts
    }

    pub fn count(&mut self, outcome: Outcome) {
        let usage = &mut self.usage;
        let (number, name) = match outcome {
            Outcome::Generated => (&mut usage.generated, "generated"),
            Outcome::Regenerated => (&mut usage.regenerated, "regenerated"),
            Outcome::Replaced => (&mut usage.replaced, "replaced"),
            Outcome::Conflicting => (&mut usage.conflicting, "conflicting"),
            Outcome::Dropped => (&mut usage.dropped, "dropped"),
        };
        *number += 1;
        counter!("bowerbird_answer_outcomes_total", "outcome" => name).increment(1);
    }

    pub fn drop_one(&mut self) {
        self.count(Outcome::Dropped);
    }

    /// Sends a sentence; false when the post it cites has gone meanwhile.
    pub async fn send(
        &mut self,
        claim: String,
        side: Option<Side>,
        support: &Support,
        origin: Origin,
        evidence: &Evidence,
    ) -> bool {
        let citations = vec![evidence.citation()];
        if !self.still_there.holds(&citations) {
            self.drop_one();
            return false;
        }
        self.said.extend(content_stems(&tokens(&claim)));
        let (conflict, lead) = side.map(|side| (side.conflict, side.lead)).unzip();
        let text = lead.clone().unwrap_or_default() + &claim;
        let (start, end) = self.placer.place(&text, &citations);
        if self.sent == 0 {
            let elapsed = self.started.elapsed();
            histogram!("bowerbird_answer_first_sentence_seconds").record(elapsed.as_secs_f64());
            self.usage.first_sentence_ms = Some(millis(elapsed));
        }
        self.sent += 1;
        let (verdict, probability) = (support.verdict, support.probability);
        let sentence = Sentence { text, lead, conflict, start, end, citations, verdict, probability, origin };
        // A closed channel ends the whole composition (see `stream`).
        let _ = self.events.send(AnswerEvent::Sentence(sentence)).await;
        true
    }

    pub async fn finish(
        mut self,
        finish_reason: FinishReason,
        reason: Option<String>,
        nearest: Vec<Nearest>,
    ) {
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
