//! What can be set about answers.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Settings of an [`crate::Answerer`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AnswerConfig {
    /// Let the generator restate the evidence; `false` quotes only.
    pub generate: bool,
    /// Hold the generator to the words of the post it restates and to function words, so that it copies numbers and
    /// names or leaves them out. The embedded generator obeys; a remote one does not know how.
    pub constrain: bool,
    /// Ask once more for a sentence that failed the check, before it is replaced by a quotation.
    pub regenerate: bool,
    /// Sentences of an answer when the request names no number.
    pub max_sentences: usize,
    /// Posts read, best first; the rest is left alone.
    pub max_sources: usize,
    /// Sentences of posts scored by the cross-encoder for one question; 12 short pairs cost about 75 ms on one core.
    pub scored_sentences: usize,
    /// Sentences kept as evidence.
    pub evidence_sentences: usize,
    /// Weight of relevance against novelty in maximal marginal relevance, 0 to 1.
    pub mmr_lambda: f32,
    /// A sentence whose cross-encoder logit for the question is below this is no evidence; when none is left, the
    /// answer is a refusal. On the demo posts the best logit of 30 answerable questions was at least 0.6, that of ten
    /// unanswerable ones at most -4.5, but for one at 0.9.
    pub min_relevance_logit: f32,
    /// The same when the cross-encoder cannot be asked: least share of the question's content words in the sentence.
    pub min_relevance_words: f32,
    /// Least probability of a supported sentence. At 0.8 precision is .95 on judged pairs of one or two sentences that
    /// the weights were not learnt from (`support/support_report.json`).
    pub supported_from: f32,
    /// Least probability of a partly supported sentence; such a sentence is not sent, only counted.
    pub partial_from: f32,
    /// Least cross-encoder logit of a generated sentence (as the query) and its evidence (as the passage).
    pub min_support_logit: f32,
    /// Most logits by which a generated sentence may say less about the question than its evidence does: a generator
    /// likes to restate the first words ("Hey, don't just sit there!") and stop.
    pub max_relevance_loss: f32,
    /// Most tokens of one generated sentence.
    pub sentence_tokens: usize,
    /// With less time than this left, nothing is generated: reading the prompt and writing a sentence takes about
    /// 1.2 s on two cores.
    #[serde(with = "humantime_serde")]
    pub generate_from: Duration,
    /// Time kept for the check after a generation.
    #[serde(with = "humantime_serde")]
    pub check_time: Duration,
}

impl Default for AnswerConfig {
    fn default() -> Self {
        Self {
            generate: true,
            constrain: true,
            regenerate: true,
            max_sentences: 3,
            max_sources: 10,
            scored_sentences: 12,
            evidence_sentences: 6,
            mmr_lambda: 0.7,
            min_relevance_logit: -2.0,
            min_relevance_words: 0.6,
            supported_from: 0.8,
            partial_from: 0.4,
            min_support_logit: 0.0,
            max_relevance_loss: 3.0,
            sentence_tokens: 48,
            generate_from: Duration::from_millis(1_500),
            check_time: Duration::from_millis(150),
        }
    }
}

/// Every problem of a configuration at once.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("answer configuration: {}", problems.join("; "))]
pub struct InvalidConfig {
    /// One line each, naming the field.
    pub problems: Vec<String>,
}

impl AnswerConfig {
    /// Checks every field and reports all problems together.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        let mut problems = Vec::new();
        for (name, value, limit) in [
            ("max_sentences", self.max_sentences, 10),
            ("max_sources", self.max_sources, 50),
            ("scored_sentences", self.scored_sentences, 64),
            ("evidence_sentences", self.evidence_sentences, 64),
            ("sentence_tokens", self.sentence_tokens, 256),
        ] {
            if value == 0 || value > limit {
                problems.push(format!("{name} is {value}, expected 1 to {limit}"));
            }
        }
        for (name, value) in [
            ("mmr_lambda", self.mmr_lambda),
            ("min_relevance_words", self.min_relevance_words),
            ("supported_from", self.supported_from),
            ("partial_from", self.partial_from),
        ] {
            if !(0.0..=1.0).contains(&value) {
                problems.push(format!("{name} is {value}, expected 0 to 1"));
            }
        }
        for (name, value) in [
            ("min_relevance_logit", self.min_relevance_logit),
            ("min_support_logit", self.min_support_logit),
            ("max_relevance_loss", self.max_relevance_loss),
        ] {
            if !value.is_finite() {
                problems.push(format!("{name} is {value}, expected a finite number"));
            }
        }
        if self.partial_from > self.supported_from {
            problems.push(format!(
                "partial_from is {}, expected at most supported_from ({})",
                self.partial_from, self.supported_from
            ));
        }
        if problems.is_empty() { Ok(()) } else { Err(InvalidConfig { problems }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_hold_and_all_problems_are_reported() {
        assert_eq!(AnswerConfig::default().validate(), Ok(()));
        let bad = AnswerConfig {
            max_sentences: 0,
            mmr_lambda: f32::NAN,
            partial_from: 0.9,
            min_support_logit: f32::INFINITY,
            ..AnswerConfig::default()
        };
        let problems = bad.validate().expect_err("four problems").problems;
        assert_eq!(problems.len(), 4, "{problems:?}");
    }

    #[test]
    fn durations_have_units_and_unknown_fields_are_refused() {
        let config: AnswerConfig = serde_json::from_str(r#"{"generate_from": "2s"}"#).expect("parses");
        assert_eq!(config.generate_from, Duration::from_secs(2));
        assert!(serde_json::from_str::<AnswerConfig>(r#"{"generate_form": "2s"}"#).is_err());
    }
}
