//! One sentence of a post in the generator's words, checked; a failed one is asked for once more.

use std::sync::Arc;
use std::time::Instant;

use bowerbird_scheduler::{Job, Priority};

use crate::check::{Limits, Reason, Support, check_aligned};
use crate::compose::{Inner, count};
use crate::evidence::Evidence;
use crate::generate::{DraftError, Wish, draft};
use crate::injection::addresses_the_reader_machine;
use crate::markup::breaks_out;
use crate::progress::Progress;
use crate::prompt::messages;
use crate::support::{Alignment, ask};
use crate::types::{AnswerRequest, Origin, Verdict};
use crate::vocabulary::{Freedom, constraint};

/// Temperature of the second try: enough to leave the path of the first.
const AGAIN_TEMPERATURE: f32 = 0.5;

/// Outcome of [`Inner::restate`].
pub(crate) enum Restated {
    /// The cited post says it.
    Supported {
        /// The sentence.
        text: String,
        /// The check's opinion.
        support: Support,
        /// It was the second try.
        again: bool,
    },
    /// It does not, or there was no sentence.
    Rejected {
        /// Whether another sentence could fare better: not where the cross-encoder has no opinion.
        open: bool,
    },
}

impl Inner {
    /// One generated sentence from one piece of evidence, checked. A rejected one is asked for once more, from fewer
    /// words and drawn with another seed, while there is time.
    pub(crate) async fn restate(
        &self,
        request: &AnswerRequest,
        evidence: &Evidence,
        progress: &mut Progress<'_>,
    ) -> Result<Restated, DraftError> {
        let first = self.attempt(request, evidence, progress, false).await?;
        let left = request.deadline.saturating_duration_since(Instant::now());
        let again = self.config.regenerate && left >= self.config.generate_from;
        if !again || !matches!(first, Restated::Rejected { open: true }) {
            return Ok(first);
        }
        match self.attempt(request, evidence, progress, true).await {
            // The first try was in time; that the second is not says nothing about the next sentence.
            Err(DraftError::Deadline) => Ok(first),
            second => second,
        }
    }

    async fn attempt(
        &self,
        request: &AnswerRequest,
        evidence: &Evidence,
        progress: &mut Progress<'_>,
        again: bool,
    ) -> Result<Restated, DraftError> {
        let left = request.deadline.saturating_duration_since(Instant::now());
        if left < self.config.generate_from {
            return Err(DraftError::Deadline);
        }
        let deadline = request.deadline.checked_sub(self.config.check_time).unwrap_or(request.deadline);
        let messages = messages(&[(evidence.n, evidence.quote.as_str())]);
        let freedom = if again { Freedom::Glue } else { Freedom::FunctionWords };
        let wish = Wish {
            max_tokens: self.config.sentence_tokens,
            temperature: if again { AGAIN_TEMPERATURE } else { 0.0 },
            seed: request.seed.wrapping_add(u64::from(again)),
            constraint: self.config.constrain.then(|| constraint(&evidence.quote, freedom)).flatten(),
        };
        let draft = draft(self.generator.as_ref(), messages, wish, deadline).await?;
        progress.usage.prompt_tokens += draft.prompt_tokens;
        progress.usage.generated_tokens += draft.generated_tokens;
        let harmless = |text: &String| !addresses_the_reader_machine(text) && !breaks_out(text);
        let Some(text) = draft.sentence.filter(harmless) else {
            return Ok(Restated::Rejected { open: true });
        };

        let limits = Limits::from(&self.config);
        let job = Job { priority: Priority::AnswerCheck, deadline: Some(request.deadline) };
        let alignment = Alignment::new(&text, &[&evidence.quote]);
        let said: [Arc<str>; 1] = [text.as_str().into()];
        let (scores, answers) = tokio::join!(
            ask(&self.encoders, &alignment, job),
            self.encoders.score(&request.question, &said, job)
        );
        let relevance = answers.into_iter().collect::<Result<Vec<_>, _>>();
        let (scores, relevance) = match (scores.as_ref(), relevance.as_deref()) {
            (Ok(scores), Ok([relevance])) => (Some(*scores), Some(relevance.get())),
            (Err(error), _) | (_, Err(error)) => {
                progress.degraded.insert("check");
                tracing::warn!(%error, "a generated sentence was not scored, so it is not used");
                (None, None)
            }
            _ => (None, None),
        };
        let mut support = check_aligned(&alignment, &[&evidence.quote], scores.as_ref(), &limits);
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
            Ok(Restated::Supported { text, support, again })
        } else {
            Ok(Restated::Rejected { open: scores.is_some() })
        }
    }
}
