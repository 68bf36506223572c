//! Figures of a run.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::measure::Run;

/// How well probabilities tell clicks from none.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Score {
    /// Area under the ROC curve.
    pub auc: f64,
    /// Mean log loss.
    pub log_loss: f64,
    /// Log loss relative to that of the overall share of clicks; below 1 is worth something.
    pub normalised_entropy: f64,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct ClickFigures {
    /// Auctions, bidders in each, impressions judged, clicks among them.
    pub auctions: usize,
    /// Bidders in each.
    pub bidders: usize,
    /// Impressions of the second half.
    pub impressions: usize,
    /// Clicks among them.
    pub clicks: usize,
    /// On what was served: `truth` (nothing can be better), `model`, `counts` (shrunk counts of the ad), `prior`.
    pub scores: BTreeMap<&'static str, Score>,
    /// Predicted by observed clicks of the estimate in use, on winners.
    pub pcoc: f64,
    /// The same by decile of the estimate, lowest first.
    pub pcoc_deciles: Vec<f64>,
    /// The same for the first and the second slot.
    pub pcoc_slots: Vec<f64>,
    /// Of the raw estimate, on the same winners.
    pub pcoc_raw: f64,
    /// Of the shrunk counts, on the same winners.
    pub pcoc_counts: f64,
    /// Of the raw estimate on everyone who bid.
    pub pcoc_raw_candidates: f64,
    /// Mean divergence from the truth, in thousandths of a nat, over the first 100 impressions of ads that began in the
    /// second half: `model`, `blind` (the same model without relevance), `counts`, `prior`, `share` (the overall share).
    pub cold_start: BTreeMap<&'static str, f64>,
    /// Estimated click probability in the second slot relative to the first, and the true one.
    pub second_slot: (f64, f64),
    /// Root mean square of (logit - true logit) / sd over everyone who bid: 1 when the model knows how unsure it is.
    pub standard_error: f64,
    /// True `bid · probability` of those who got the slots, relative to that of the best choice: 1 when the truth is
    /// known.
    pub welfare: f64,
    /// Microseconds of an estimate.
    pub estimate_us: f64,
    /// Microseconds of learning from one example.
    pub learn_us: f64,
}

/// A served ad of the second half.
pub(super) struct Served {
    pub slot: usize,
    pub clicked: bool,
    pub explored: bool,
    pub truth: f64,
    pub model: f64,
    pub raw: f64,
    pub counts: f64,
    pub prior: f64,
}

/// Sum of predictions and of what came about.
#[derive(Clone, Copy, Default)]
pub(super) struct Ratio(f64, f64);

impl Ratio {
    pub fn add(&mut self, said: f64, came: f64) {
        self.0 += said;
        self.1 += came;
    }

    pub fn get(self) -> f64 {
        self.0 / self.1
    }
}

/// What does not come from served ads one by one.
pub(super) struct Rest {
    pub candidates: Ratio,
    pub slots: Ratio,
    pub squares: Ratio,
    pub welfare: Ratio,
    pub estimating: Duration,
    pub estimates: u32,
    pub learning: Duration,
    pub learnt: u32,
}

pub(super) fn figures(run: &Run, served: &[Served], cold: &[[f64; 5]], rest: Rest) -> ClickFigures {
    let ratio = |rows: &[&Served], said: fn(&Served) -> f64| {
        let mut ratio = Ratio::default();
        for row in rows {
            ratio.add(said(row), row.truth);
        }
        ratio.get()
    };
    let mut winners: Vec<&Served> = served.iter().filter(|row| !row.explored).collect();
    winners.sort_by(|a, b| a.model.total_cmp(&b.model));
    let tenth = winners.len().div_ceil(10).max(1);
    let of_slot = |slot| {
        let rows: Vec<&Served> = winners.iter().copied().filter(|row| row.slot == slot).collect();
        ratio(&rows, |row| row.model)
    };
    let score = |said: fn(&Served) -> f64| score(served.iter().map(|row| (said(row), row.clicked)));
    let mean = |at: usize| 1e3 * cold.iter().map(|row| row[at]).sum::<f64>() / cold.len().max(1) as f64;
    let names = ["model", "blind", "counts", "prior", "share"];
    ClickFigures {
        auctions: run.auctions,
        bidders: run.bidders,
        impressions: served.len(),
        clicks: served.iter().filter(|row| row.clicked).count(),
        scores: BTreeMap::from([
            ("truth", score(|row| row.truth)),
            ("model", score(|row| row.model)),
            ("counts", score(|row| row.counts)),
            ("prior", score(|row| row.prior)),
        ]),
        pcoc: ratio(&winners, |row| row.model),
        pcoc_deciles: winners.chunks(tenth).map(|rows| ratio(rows, |row| row.model)).collect(),
        pcoc_slots: vec![of_slot(0), of_slot(1)],
        pcoc_raw: ratio(&winners, |row| row.raw),
        pcoc_counts: ratio(&winners, |row| row.counts),
        pcoc_raw_candidates: rest.candidates.get(),
        cold_start: names.into_iter().enumerate().map(|(at, name)| (name, mean(at))).collect(),
        second_slot: (rest.slots.get(), run.second_slot),
        standard_error: rest.squares.get().sqrt(),
        welfare: rest.welfare.get(),
        estimate_us: 1e6 * rest.estimating.as_secs_f64() / f64::from(rest.estimates.max(1)),
        learn_us: 1e6 * rest.learning.as_secs_f64() / f64::from(rest.learnt.max(1)),
    }
}

/// Divergence of Kullback and Leibler of a coin that is said to fall with `said` from one that does with `truth`.
pub(super) fn divergence(truth: f64, said: f64) -> f64 {
    let said = said.clamp(1e-9, 1.0 - 1e-9);
    truth * (truth / said).ln() + (1.0 - truth) * ((1.0 - truth) / (1.0 - said)).ln()
}

fn score(rows: impl Iterator<Item = (f64, bool)>) -> Score {
    let mut rows: Vec<(f64, bool)> = rows.collect();
    rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    let yes = rows.iter().filter(|(_, clicked)| *clicked).count() as f64;
    let no = rows.len() as f64 - yes;
    let (mut below, mut wins, mut loss) = (0.0, 0.0, 0.0);
    for tied in rows.chunk_by(|a, b| a.0.total_cmp(&b.0).is_eq()) {
        let tied_yes = tied.iter().filter(|(_, clicked)| *clicked).count() as f64;
        let tied_no = tied.len() as f64 - tied_yes;
        wins += tied_yes * (below + tied_no / 2.0);
        below += tied_no;
        let p = tied[0].0.clamp(1e-9, 1.0 - 1e-9);
        loss -= tied_yes * p.ln() + tied_no * (1.0 - p).ln();
    }
    let log_loss = loss / rows.len() as f64;
    let base = yes / rows.len() as f64;
    let entropy = -(base * base.ln() + (1.0 - base) * (1.0 - base).ln());
    Score { auc: wins / (yes * no), log_loss, normalised_entropy: log_loss / entropy }
}
