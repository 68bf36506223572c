//! Ad texts from advertisers' facts: the answerer, asked about nothing but the facts of one ad.
//!
//! A call of its own, by an answerer of its own: no post and no other ad is among its sources, and what it writes goes
//! to the ad engine only. The generator is given one fact and never the query, so a query cannot tell it what to write;
//! the query decides which fact is restated. What comes back is supported as the check of answers sees it, and held to
//! its fact once more by the ad engine.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bowerbird_ads::{Author, Draft, Drafted};
use bowerbird_answer::{
    Answer, AnswerConfig, AnswerRequest, Answerer, FinishReason, Origin, PROMPT_VERSION, Source, StillThere,
    Verdict,
};
use bowerbird_models_api::Generator;
use bowerbird_scheduler::Encoders;
use futures::future::BoxFuture;
use jiff::Timestamp;

/// Most facts of an ad: all of them are looked at.
const FACTS: usize = 20;
/// Facts that are tried, best first, before the advertiser's text stays.
const TRIES: usize = 3;

/// Restates the fact of an ad that says most about a query.
pub struct FactWriter {
    answerer: Answerer,
    model: String,
}

impl FactWriter {
    /// A writer over these models, by the rules of `answers`.
    pub fn new(generator: Arc<dyn Generator>, encoders: Encoders, answers: &AnswerConfig) -> Self {
        let model = generator.name().to_owned();
        let config = AnswerConfig {
            generate: true,
            max_sentences: 1,
            max_sources: FACTS,
            scored_sentences: answers.scored_sentences.max(FACTS),
            ..answers.clone()
        };
        Self { answerer: Answerer::new(generator, encoders, config), model }
    }
}

impl Author for FactWriter {
    fn write(&self, query: String, facts: Vec<String>, time: Duration) -> BoxFuture<'static, Drafted> {
        let answerer = self.answerer.clone();
        Box::pin(async move {
            let deadline = Instant::now() + time;
            let mut sources: Vec<Source> = facts.iter().zip(1..).map(source).collect();
            for _ in 0..TRIES {
                let request = AnswerRequest {
                    question: query.clone(),
                    sources: sources.clone(),
                    deadline,
                    max_sentences: 1,
                    seed: 0,
                    still_there: StillThere::always(),
                };
                match read(&answerer.answer(request).await) {
                    Read::Done(drafted) => return drafted,
                    // Its sentence did not pass: the next best fact may fare better.
                    Read::Quoted(n) => sources.retain(|source| source.n != n),
                }
            }
            Drafted::Unsupported
        })
    }

    fn model(&self) -> &str {
        &self.model
    }

    fn prompt(&self) -> &str {
        PROMPT_VERSION
    }
}

/// A fact as a source. It has no author and no time of its own that could stand in a sentence.
fn source((fact, n): (&String, usize)) -> Source {
    Source {
        n,
        post_id: format!("fact-{n}"),
        author: String::new(),
        created_at: Timestamp::UNIX_EPOCH,
        text: fact.clone(),
        score: 1.0,
    }
}

/// What an answer came to.
#[derive(Debug, PartialEq)]
enum Read {
    /// Nothing more is tried.
    Done(Drafted),
    /// The source of this number was quoted, because no sentence about it passed the check.
    Quoted(usize),
}

fn read(answer: &Answer) -> Read {
    let late = !answer.summary.degraded.is_empty()
        || matches!(answer.summary.finish_reason, FinishReason::Deadline | FinishReason::Error);
    let Some(sentence) = answer.sentences.first() else {
        return Read::Done(if late { Drafted::Late } else { Drafted::Unsupported });
    };
    let [citation] = sentence.citations.as_slice() else { return Read::Done(Drafted::Unsupported) };
    if sentence.origin == Origin::Generated
        && sentence.verdict == Verdict::Supported
        && sentence.lead.is_none()
    {
        return Read::Done(Drafted::Written(Draft {
            text: sentence.claim().to_owned(),
            fact: citation.n.saturating_sub(1),
            quote: citation.quote.clone(),
            probability: f64::from(sentence.probability),
        }));
    }
    if late { Read::Done(Drafted::Late) } else { Read::Quoted(citation.n) }
}
