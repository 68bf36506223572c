//! What an operator may choose, with defaults and their reasons.

use std::fmt;
use std::time::Duration;

use bowerbird_auction::segment::SegmentRules;
use bowerbird_auction::{Mechanism, Micros, Rules, SQUASH_PIVOT};
use serde::Deserialize;

use crate::auction::{Auction, NO_AD};
use crate::click::ClickConfig;
use crate::{Place, TrafficConfig};

/// Configuration of an [`crate::AdEngine`].
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdsConfig {
    /// ISO 4217 code every campaign must use: bids of two currencies cannot meet in one auction.
    pub currency: String,
    /// How clicks are priced.
    pub mechanism: Mechanism,
    /// Least price of a click, in micros. Five cents keeps junk bids out without touching a normal one.
    pub reserve_micros: Micros,
    /// Least price of a thousand impressions, in micros.
    pub reserve_per_mille_micros: Micros,
    /// Slots of a slate, from the top: relative chance of being looked at.
    pub slot_multipliers: Vec<f64>,
    /// Exponent of the click probability in the ranking; 1 maximises expected value.
    pub squash_gamma: f64,
    /// Least cosine between request and ad for a semantic match. A random shopping ad stays under .56 in 95 of 100
    /// cases (see [`Gate`]); the gate decides about the rest.
    pub semantic_threshold: f32,
    /// Most ads scored by the cross-encoder for one request, about 13 ms each on one core.
    pub max_scored: usize,
    /// Least cosine between a request and the name of a topic it is about, without what all names have in common. At
    /// .23, with bge-small-en-v1.5, all of 40 hand-written sentences get a topic, 34 of them a first one that a person
    /// accepts, and so does 1 of 10 remarks about nothing; it was chosen on these.
    pub topic_threshold: f32,
    /// Most pairs of a person and an ad, campaign or account that frequency caps count, about 150 bytes each. When they
    /// are used up, capped ads are not shown to new people.
    pub cap_entries: usize,
    /// The relevance gate.
    pub gate: Gate,
    /// Click estimate of an ad without history.
    pub click_prior: ClickPrior,
    /// The model of clicks.
    pub clicks: ClickConfig,
    /// How long things stay valid.
    pub time_to_live: TimeToLive,
    /// What the publisher gets of every charge, in thousandths; the rest is the platform's.
    pub publisher_permille: u16,
    /// Events that no person made.
    pub traffic: TrafficConfig,
    /// What is kept of decisions.
    pub log: LogConfig,
    /// The auction for places below answers.
    pub segment: SegmentConfig,
    /// Connections that read the database at the same time.
    pub readers: u32,
}

/// What is kept of decisions.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// How long a decision can be explained and simulated with.
    #[serde(with = "humantime_serde")]
    pub keep: Duration,
    /// Whether the words of a search are kept, for reports of search terms.
    pub queries: bool,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { keep: Duration::from_hours(30 * 24), queries: true }
    }
}

impl Default for AdsConfig {
    fn default() -> Self {
        Self {
            currency: "USD".into(),
            mechanism: Mechanism::Vcg,
            reserve_micros: Micros(50_000),
            reserve_per_mille_micros: Micros(500_000),
            slot_multipliers: vec![1.0, 0.6],
            squash_gamma: 1.0,
            semantic_threshold: 0.55,
            max_scored: 32,
            topic_threshold: 0.23,
            cap_entries: 1_000_000,
            gate: Gate::default(),
            click_prior: ClickPrior::default(),
            clicks: ClickConfig::default(),
            time_to_live: TimeToLive::default(),
            publisher_permille: 0,
            traffic: TrafficConfig::default(),
            log: LogConfig::default(),
            segment: SegmentConfig::default(),
            readers: 4,
        }
    }
}

/// The auction for places below answers; reserves are those of pages.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SegmentConfig {
    /// Weight of showing no ad, in micros an impression: what a reader's attention is worth. An ad whose impression is
    /// worth as much to its advertiser is shown every other time. 0 shows one whenever one fits.
    pub no_ad_micros: Micros,
    /// 1: chances in proportion to worth; 0: the ad that is worth most, always; above 1 small ads are seen more.
    pub temperature: f64,
}

impl Default for SegmentConfig {
    fn default() -> Self {
        Self { no_ad_micros: NO_AD, temperature: 1.0 }
    }
}

/// Relevance `g = σ(bias + logit_weight · logit + cosine_weight · cosine)`; an ad under the threshold is not shown.
///
/// The blend exists because each part misses what the other sees: the cross-encoder is at its floor (about -11) for
/// many paraphrases, the cosine alone does not tell a topic from an offer. The constants are a logistic regression
/// (classes weighted equally) on GEM-Bench CA-Prod: 555 relevant query-ad pairs against 1,186 random ones, each ad
/// cut to the size of ours, scored with ms-marco-MiniLM-L-12-v2 and bge-small-en-v1.5 as int8. With 5-fold
/// cross-validation by query: area under the ROC curve .968; at threshold .7 precision .964, recall .863; at .6
/// .961 and .879; at .4 .930 and .908. On 48 hand-written health queries against the 43 demo ads, judged by hand
/// (66 fitting pairs of 2,064, unfitting ads of the same topic included): area .982, against .960 for the
/// cross-encoder and .975 for the cosine alone; at .7 precision .80, recall .68; none of the 24 queries without a
/// fitting ad got past .36.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gate {
    /// Constant term.
    pub bias: f64,
    /// Weight of the cross-encoder's logit.
    pub logit_weight: f64,
    /// Weight of the cosine.
    pub cosine_weight: f64,
    /// Least relevance, 0 to 1.
    pub threshold: f64,
    /// Least relevance when the whole query is one of the ad's exact keywords: the advertiser named it.
    pub exact_threshold: f64,
}

impl Default for Gate {
    fn default() -> Self {
        Self { bias: 2.47, logit_weight: 0.93, cosine_weight: 12.0, threshold: 0.7, exact_threshold: 0.4 }
    }
}

/// Click probability before there are clicks: `p0 = σ(intercept + slope · z)`, `z` the log-odds of the gate, shrunk
/// with what was observed: `(clicks + strength · p0) / (impressions + strength)`.
///
/// The two coefficients are a guess, not a fit: 2 % at the gate's threshold and 7 % for a plain keyword match, the
/// range that is published for search ads. Observations take over after a few hundred impressions.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClickPrior {
    /// Log-odds of a click when the gate is undecided.
    pub intercept: f64,
    /// Log-odds of a click for each unit of the gate's log-odds.
    pub slope: f64,
    /// Impressions the prior is worth.
    pub strength: f64,
}

impl Default for ClickPrior {
    fn default() -> Self {
        Self { intercept: -4.2, slope: 0.2, strength: 200.0 }
    }
}

/// How long tokens and reservations stay valid.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TimeToLive {
    /// A price is held this long; a later click is paid from what is left of the budget. Most clicks come within a
    /// minute, and what is held for those that never come cannot be offered.
    #[serde(with = "humantime_serde")]
    pub reservation: Duration,
    /// An impression counts this long after the decision.
    #[serde(with = "humantime_serde")]
    pub impression: Duration,
    /// A click is billed this long after the decision.
    #[serde(with = "humantime_serde")]
    pub click: Duration,
}

impl Default for TimeToLive {
    fn default() -> Self {
        Self {
            reservation: Duration::from_mins(10),
            impression: Duration::from_hours(1),
            click: Duration::from_hours(24),
        }
    }
}

/// Everything that is wrong with a configuration, one line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigProblems(pub Vec<String>);

impl fmt::Display for ConfigProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

/// Longest time to live: a month.
pub(crate) const MAX_TTL: Duration = Duration::from_hours(31 * 24);

impl AdsConfig {
    /// The auction for `slots` places, at most as many as slots are configured.
    pub(crate) fn auction(&self, place: Place, slots: usize) -> Auction {
        match place {
            Place::Page => Auction::Slots(self.rules(slots)),
            Place::Answer => Auction::Segment(SegmentRules {
                winners: slots.min(self.slot_multipliers.len()),
                null_weight: self.segment.no_ad_micros.0 as f64,
                reserve: self.reserve_micros,
                reserve_per_mille: self.reserve_per_mille_micros,
                temperature: self.segment.temperature,
            }),
        }
    }

    fn rules(&self, slots: usize) -> Rules {
        let slots = slots.min(self.slot_multipliers.len());
        Rules {
            mechanism: self.mechanism,
            reserve: self.reserve_micros,
            reserve_per_mille: self.reserve_per_mille_micros,
            slot_multipliers: self.slot_multipliers[..slots].to_vec(),
            squash_gamma: self.squash_gamma,
            squash_pivot: SQUASH_PIVOT,
        }
    }

    /// Checks every value and reports all that are wrong.
    pub fn validate(&self) -> Result<(), ConfigProblems> {
        let mut problems = Vec::new();
        if let Err(error) = self.rules(self.slot_multipliers.len()).validate() {
            problems.push(error.to_string());
        }
        let segment = SegmentRules {
            null_weight: self.segment.no_ad_micros.0 as f64,
            temperature: self.segment.temperature,
            ..SegmentRules::default()
        };
        if let Err(error) = segment.validate() {
            problems.push(format!("segment: {error}"));
        }
        let mut range = |name: &str, value: f64, from: f64, to: f64| {
            if !(from..=to).contains(&value) {
                problems.push(format!("{name} is {value}, expected {from} to {to}"));
            }
        };
        range("semantic_threshold", f64::from(self.semantic_threshold), -1.0, 1.0);
        range("topic_threshold", f64::from(self.topic_threshold), -1.0, 1.0);
        range("cap_entries", self.cap_entries as f64, 1.0, 1e9);
        range("gate.threshold", self.gate.threshold, 0.0, 1.0);
        range("gate.exact_threshold", self.gate.exact_threshold, 0.0, 1.0);
        range("gate.bias", self.gate.bias, -100.0, 100.0);
        range("gate.logit_weight", self.gate.logit_weight, 0.0, 100.0);
        range("gate.cosine_weight", self.gate.cosine_weight, 0.0, 100.0);
        range("click_prior.intercept", self.click_prior.intercept, -20.0, 20.0);
        range("click_prior.slope", self.click_prior.slope, 0.0, 10.0);
        range("click_prior.strength", self.click_prior.strength, 1.0, 1e9);
        range("max_scored", self.max_scored as f64, 1.0, 1000.0);
        range("readers", f64::from(self.readers), 1.0, 64.0);
        range("publisher_permille", f64::from(self.publisher_permille), 0.0, 1000.0);
        problems.extend(self.clicks.problems().into_iter().map(|problem| format!("clicks.{problem}")));
        for (name, ttl) in [
            ("reservation", self.time_to_live.reservation),
            ("impression", self.time_to_live.impression),
            ("click", self.time_to_live.click),
        ] {
            if ttl.is_zero() || ttl > MAX_TTL {
                problems.push(format!(
                    "time_to_live.{name} is {ttl:?}, expected more than 0 and at most 31 days"
                ));
            }
        }
        if !crate::import::is_known_currency(&self.currency) {
            problems.push(format!("currency is {:?}, expected an ISO 4217 code such as USD", self.currency));
        }
        if problems.is_empty() { Ok(()) } else { Err(ConfigProblems(problems)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_problems_at_once() {
        assert_eq!(AdsConfig::default().validate(), Ok(()));
        let config = AdsConfig {
            currency: "usd".into(),
            reserve_micros: Micros(-1),
            semantic_threshold: f32::NAN,
            max_scored: 0,
            time_to_live: TimeToLive { click: Duration::ZERO, ..TimeToLive::default() },
            ..AdsConfig::default()
        };
        let problems = config.validate().expect_err("five are wrong").0;
        assert_eq!(problems.len(), 5, "{problems:#?}");
    }

    #[test]
    fn read_from_json_with_units_and_without_typos() {
        let config: AdsConfig =
            serde_json::from_str(r#"{"time_to_live": {"click": "2h"}, "mechanism": "gsp"}"#).expect("parses");
        assert_eq!(config.time_to_live.click, Duration::from_hours(2));
        assert_eq!(config.mechanism, Mechanism::Gsp);
        assert!(serde_json::from_str::<AdsConfig>(r#"{"reserve": 3}"#).is_err());
    }
}
