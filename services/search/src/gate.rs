//! Whether, how deep and with which share the cross-encoder reads the candidates of a query.
//!
//! [`Features`] say what the first stage knows; a [`Gate`] turns them, and nothing else, into a [`Choice`]; the pace
//! cuts the choice to the time that is left. A gate is data: `bowerbird tune` learns it from judgements and writes it
//! into a profile.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::fuse::{Candidate, Candidates};

/// Fewest candidates worth reading: under it there is no order to improve.
pub const MIN_DEPTH: usize = 4;
/// Places of each leg that `overlap` compares.
const TOP: u32 = 10;

/// What the first stage says of a query, before the cross-encoder. Every value is finite.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Features {
    /// Fused score of the first candidate less that of the second, 0 to 1.
    pub gap_next: f32,
    /// Fused score of the first candidate less that of the last of the head, 0 to 1.
    pub gap_depth: f32,
    /// Entropy of the head's fused scores above the lowest of them, as shares, over the logarithm of their number: 0
    /// when one candidate stands out, 1 when all are alike.
    pub entropy: f32,
    /// Share of the first ten places that both legs give to the same posts, 0 to 1; 0 when one leg ran alone.
    pub overlap: f32,
    /// How far the best post covers the query, 0 to 1; see [`crate::Shares`].
    pub coverage: f32,
    /// `ln(1 + words)` of the query.
    pub words: f32,
    /// `ln(1 + bytes)` of the mean text of the head.
    pub length: f32,
}

/// Number of features.
pub const FEATURE_COUNT: usize = 7;
/// Their names, in the order of [`Features::values`].
pub const FEATURE_NAMES: [&str; FEATURE_COUNT] =
    ["gap_next", "gap_depth", "entropy", "overlap", "coverage", "words", "length"];

impl Features {
    /// Features of `query` and the first `head` candidates, whose texts have `bytes`.
    pub(crate) fn new(query: &str, candidates: &Candidates, bytes: &[usize]) -> Self {
        let head = &candidates.list[..bytes.len().min(candidates.list.len())];
        let fused: Vec<f32> = head.iter().map(|c| c.fused.0).collect();
        let (Some(first), Some(last)) = (fused.first(), fused.last()) else {
            return Self::default();
        };
        let among = |rank: Option<u32>| rank.is_some_and(|rank| rank <= TOP);
        let both = |c: &&Candidate| among(c.lexical_rank) && among(c.vector_rank);
        let mean = bytes.iter().sum::<usize>() as f32 / bytes.len() as f32;
        Self {
            gap_next: first - fused.get(1).unwrap_or(last),
            gap_depth: first - last,
            entropy: entropy(&fused),
            overlap: candidates.list.iter().filter(both).count() as f32 / TOP as f32,
            coverage: candidates.shares.coverage,
            words: (query.split_whitespace().count() as f32).ln_1p(),
            length: mean.ln_1p(),
        }
    }

    /// The values, in the order of [`FEATURE_NAMES`].
    pub fn values(&self) -> [f32; FEATURE_COUNT] {
        [self.gap_next, self.gap_depth, self.entropy, self.overlap, self.coverage, self.words, self.length]
    }
}

impl From<[f32; FEATURE_COUNT]> for Features {
    fn from(values: [f32; FEATURE_COUNT]) -> Self {
        let [gap_next, gap_depth, entropy, overlap, coverage, words, length] = values;
        Self { gap_next, gap_depth, entropy, overlap, coverage, words, length }
    }
}

/// Entropy of `scores` above the lowest, as shares, over the logarithm of their number; 1 when all are equal.
fn entropy(scores: &[f32]) -> f32 {
    let low = scores.iter().copied().fold(f32::INFINITY, f32::min);
    let sum: f32 = scores.iter().map(|score| score - low).sum();
    if scores.len() < 2 || sum <= 0.0 {
        return 1.0;
    }
    let shares = scores.iter().map(|score| (score - low) / sum).filter(|share| *share > 0.0);
    shares.map(|share| -share * share.ln()).sum::<f32>() / (scores.len() as f32).ln()
}

/// A step of a gate: what is done from a probability on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Least probability that reading does more good than harm, 0 to 1.
    pub probability: f32,
    /// Candidates read.
    pub depth: usize,
    /// Share of the cross-encoder in the score of a candidate read, 0 to 1.
    pub blend: f32,
}

/// A learned rule: `probability = sigmoid(intercept + weights · features)`, then the first step whose probability is
/// reached; below the last step nothing is read.
#[derive(Clone, Debug, PartialEq)]
pub struct Gate {
    /// Of the profile.
    pub name: String,
    /// Intercept of the log-odds.
    pub intercept: f32,
    /// Log-odds for one unit of each of [`FEATURE_NAMES`].
    pub weights: [f32; FEATURE_COUNT],
    /// Highest probability first.
    pub steps: Vec<Step>,
}

/// What a gate chooses for a query.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// Probability that reading does more good than harm; none when every query is read.
    pub probability: Option<f32>,
    /// Candidates to read; 0 for none.
    pub depth: usize,
    /// Share of the cross-encoder.
    pub blend: f32,
}

impl Gate {
    /// The choice for a query with these features. It depends on nothing else.
    pub fn choose(&self, features: &Features) -> Choice {
        let sum: f32 = self.weights.iter().zip(features.values()).map(|(weight, value)| weight * value).sum();
        let probability = 1.0 / (1.0 + (-(self.intercept + sum)).exp());
        let step = self.steps.iter().find(|step| probability >= step.probability);
        Choice {
            probability: Some(probability),
            depth: step.map_or(0, |step| step.depth),
            blend: step.map_or(0.0, |step| step.blend),
        }
    }
}

/// Why as many candidates were read as were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reason {
    /// The stage is off, or there are too few candidates.
    #[default]
    Off,
    /// Without a gate every query is read.
    Always,
    /// The gate expects more good than harm.
    Useful,
    /// The first stage is as good as the cross-encoder here.
    Confident,
    /// The time left allows fewer than the gate would read.
    Shortened,
    /// The time left allows too few.
    NoTime,
}

impl Reason {
    /// Name in responses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Always => "always",
            Self::Useful => "useful",
            Self::Confident => "confident",
            Self::Shortened => "shortened",
            Self::NoTime => "no_time",
        }
    }

    /// Whether only time kept the stage from doing more.
    pub fn is_forced(self) -> bool {
        matches!(self, Self::Shortened | Self::NoTime)
    }
}

/// What the stage was to do for a query, and why.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gating {
    /// Name of the gate; none when every query is read.
    pub gate: Option<String>,
    /// What the first stage said.
    pub features: Features,
    /// Probability that reading does more good than harm; none without a gate.
    pub probability: Option<f32>,
    /// Candidates that would be read with all the time of the world.
    pub wanted: usize,
    /// Candidates read.
    pub depth: usize,
    /// Share of the cross-encoder.
    pub blend: f32,
    /// Why.
    pub reason: Reason,
    /// What reading the wanted candidates was expected to take; none before the first measurement.
    pub predicted: Option<Duration>,
    /// What was left of the deadline or the budget.
    pub left: Duration,
}

/// Bytes of a text that cost time: about what the windows of the reranker cover.
const READ_BYTES: usize = 1800;
/// Bytes of text that cost as much as the query and the call itself.
const CALL_BYTES: usize = 150;
/// Share of a new measurement in the pace.
const NEWEST: f32 = 0.2;
/// What a pace shrinks to after a query that was not read for lack of time: one slow moment must not end reading.
const DOUBT: f32 = 0.8;

/// Seconds the encoders take for a byte of text, as measured lately, waiting included.
#[derive(Debug, Default)]
pub(crate) struct Pace(AtomicU32);

/// What reading a text costs, in bytes.
fn cost(bytes: usize) -> usize {
    CALL_BYTES + bytes.min(READ_BYTES)
}

impl Pace {
    fn get(&self) -> Option<f32> {
        Some(f32::from_bits(self.0.load(Ordering::Relaxed))).filter(|pace| *pace > 0.0)
    }

    fn set(&self, pace: f32) {
        // Writers that meet lose a measurement, not the pace.
        self.0.store(pace.to_bits(), Ordering::Relaxed);
    }

    /// What reading texts of these sizes will take; none before the first measurement.
    pub fn predict(&self, bytes: &[usize]) -> Option<Duration> {
        let pace = self.get()?;
        let cost: usize = bytes.iter().copied().map(cost).sum();
        Duration::try_from_secs_f32(pace * cost as f32).ok()
    }

    /// How many of the first texts can be read in `left`; all of them before the first measurement.
    pub fn affordable(&self, bytes: &[usize], left: Duration) -> usize {
        let Some(pace) = self.get() else {
            return bytes.len();
        };
        let left = left.as_secs_f32();
        let mut spent = 0.0;
        let fits = |bytes: &&usize| {
            spent += pace * cost(**bytes) as f32;
            spent <= left
        };
        bytes.iter().take_while(fits).count()
    }

    /// Notes that reading texts of these sizes took `time`.
    pub fn note(&self, bytes: &[usize], time: Duration) {
        let cost: usize = bytes.iter().copied().map(cost).sum();
        if cost == 0 {
            return;
        }
        let measured = (time.as_secs_f32() / cost as f32).max(f32::MIN_POSITIVE);
        self.set(self.get().map_or(measured, |pace| pace + NEWEST * (measured - pace)));
    }

    /// Notes that nothing was read because this pace did not allow it.
    pub fn doubt(&self) {
        if let Some(pace) = self.get() {
            self.set((pace * DOUBT).max(f32::MIN_POSITIVE));
        }
    }
}

#[cfg(test)]
mod tests {
    use bowerbird_posts::Ordinal;
    use proptest::prelude::*;

    use super::*;
    use crate::fuse::{Fused, Shares};

    /// Reads 16 from .6 on, 8 from .4 on, and expects less good the clearer the winner is.
    fn gate() -> Gate {
        Gate {
            name: "test".into(),
            intercept: 2.0,
            weights: [-10.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0],
            steps: vec![
                Step { probability: 0.6, depth: 16, blend: 0.4 },
                Step { probability: 0.4, depth: 8, blend: 0.2 },
            ],
        }
    }

    fn candidates(fused: &[f32]) -> Candidates {
        let candidate = |(n, fused): (u32, &f32)| Candidate {
            fused: Fused(*fused),
            lexical_rank: Some(n + 1),
            vector_rank: n.is_multiple_of(2).then_some(n + 1),
            ..Candidate::new(Ordinal(n))
        };
        let list = (0..).zip(fused).map(candidate).collect();
        Candidates { list, shares: Shares { lexical: 0.3, vector: 0.7, coverage: 0.5, neighbours: 0.0 } }
    }

    #[test]
    fn features_describe_the_head() {
        let fused = candidates(&[0.9, 0.6, 0.3, 0.3]);
        let features = Features::new("three plain words", &fused, &[99, 101, 100]);
        let expected = Features {
            gap_next: 0.3,
            gap_depth: 0.6,
            entropy: (2.0f32 / 3.0 * (1.5f32).ln() + 1.0 / 3.0 * 3f32.ln()) / 3f32.ln(),
            overlap: 0.2,
            coverage: 0.5,
            words: 4f32.ln(),
            length: 101f32.ln(),
        };
        for (found, expected) in features.values().iter().zip(expected.values()) {
            assert!((found - expected).abs() < 1e-6, "{features:?}");
        }
        assert_eq!(Features::new("", &candidates(&[]), &[]), Features::default());
        let alike = Features::new("q", &candidates(&[0.5, 0.5]), &[1, 1]).entropy;
        assert!((alike - 1.0).abs() < 1e-6, "{alike}");
    }

    #[test]
    fn a_clear_winner_is_not_read_and_a_close_race_is() {
        let choose = |gap_next| gate().choose(&Features { gap_next, ..Features::default() });
        assert_eq!((choose(0.0).depth, choose(0.2).depth, choose(0.5).depth), (16, 8, 0));
        let blends = [choose(0.0).blend, choose(0.2).blend];
        assert!((blends[0] - 0.4).abs() < 1e-6 && (blends[1] - 0.2).abs() < 1e-6, "{blends:?}");
    }

    #[test]
    fn depth_follows_the_time_left() {
        let pace = Pace::default();
        let texts = [850; 16];
        assert_eq!(pace.affordable(&texts, Duration::from_millis(1)), 16, "nothing is known yet");
        assert_eq!(pace.predict(&texts), None);
        pace.note(&texts, Duration::from_millis(160));
        assert_eq!(pace.affordable(&texts, Duration::from_millis(55)), 5);
        assert_eq!(pace.affordable(&texts, Duration::from_millis(500)), 16);
        assert_eq!(pace.affordable(&texts, Duration::ZERO), 0);
        let predicted = pace.predict(&texts).expect("measured").as_secs_f32();
        assert!((predicted - 0.16).abs() < 1e-4, "{predicted}");
        // A long text costs what its windows cost.
        assert_eq!(pace.affordable(&[1_000_000; 16], Duration::from_millis(59)), 3);
        // One slow moment does not end reading.
        for _ in 0..40 {
            pace.doubt();
        }
        assert_eq!(pace.affordable(&texts, Duration::from_millis(55)), 16);
    }

    proptest! {
        #[test]
        fn a_choice_depends_only_on_the_features(
            values in proptest::array::uniform7(-20.0f32..20.0),
            order in proptest::collection::vec(any::<u32>(), 0..5),
        ) {
            let [gap_next, gap_depth, entropy, overlap, coverage, words, length] = values;
            let features = Features { gap_next, gap_depth, entropy, overlap, coverage, words, length };
            prop_assert_eq!(features.values().map(f32::to_bits), values.map(f32::to_bits));
            let gate = gate();
            let first = gate.choose(&features);
            // Whatever was asked between, the same features give the same choice.
            for between in order {
                gate.choose(&Features { gap_next: between as f32, ..features });
            }
            prop_assert_eq!(first, gate.choose(&features));
            let probability = first.probability.expect("a gate");
            prop_assert!((0.0..=1.0).contains(&probability));
            prop_assert!([0, 8, 16].contains(&first.depth));
            // A clearer winner is never read deeper.
            let clearer = gate.choose(&Features { gap_next: gap_next + 0.5, ..features });
            prop_assert!(clearer.depth <= first.depth);
        }
    }
}
