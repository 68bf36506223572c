//! From judged heads to a gate, and what gates of this kind are worth on queries they were not learned from.

use bowerbird_search::Gate;
use bowerbird_search::gate::{FEATURE_COUNT, Step};

use crate::eval::fit::{Sample, logistic};
use crate::eval::heads::{Head, Heads, hash};
use crate::profile::{CrossValidation, Figures};

/// Shares of the cross-encoder that are tried.
const SHARES: [f32; 9] = [0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5];
/// Least probabilities that are tried for reading; 0 reads every query.
const PROBABILITIES: [f32; 7] = [0.0, 0.3, 0.4, 0.45, 0.5, 0.55, 0.6];
/// nDCG@10 that reading a whole head must gain to be worth its time: below what any judged set can show.
pub const COST: f64 = 0.001;
/// nDCG@10 that a gate may lose on any set against both the fused list and reading every query.
const HARM: f64 = 0.003;
/// Strength of the ridge: with some hundred noisy queries a feature must earn its weight.
const RIDGE: f64 = 10.0;
/// Parts into which queries are divided.
const FOLDS: usize = 5;

/// A query of a set; every set weighs the same.
struct Row<'a> {
    set: usize,
    head: &'a Head,
}

/// A rule that reads every query.
fn always(depth: usize, blend: f32) -> Gate {
    let step = Step { probability: 0.0, depth, blend };
    Gate { name: String::new(), intercept: 0.0, weights: [0.0; FEATURE_COUNT], steps: vec![step] }
}

fn features(head: &Head) -> bowerbird_search::gate::Features {
    head.features.into()
}

/// nDCG@10 and depth of a query under `gate`.
fn outcome(gate: &Gate, head: &Head) -> (f64, usize) {
    let choice = gate.choose(&features(head));
    let depth = choice.depth.min(head.logits.len());
    (head.ndcg(depth, choice.blend), depth)
}

/// Mean of `value` over the queries of each set, then over the sets that have any.
fn mean(rows: &[Row<'_>], value: impl Fn(&Head) -> f64) -> f64 {
    let sets = rows.iter().map(|row| row.set).max().map_or(0, |last| last + 1);
    let mut sums = vec![(0.0, 0usize); sets];
    for row in rows {
        sums[row.set].0 += value(row.head);
        sums[row.set].1 += 1;
    }
    let means: Vec<f64> = sums.iter().filter(|(_, n)| *n > 0).map(|(sum, n)| sum / *n as f64).collect();
    means.iter().sum::<f64>() / means.len().max(1) as f64
}

/// Mean nDCG@10 less the cost of what is read, where `deepest` costs [`COST`].
fn utility(gate: &Gate, rows: &[Row<'_>], deepest: usize) -> f64 {
    mean(rows, |head| {
        let (ndcg, depth) = outcome(gate, head);
        ndcg - cost(depth, deepest)
    })
}

/// The first of `gates` with the highest utility.
fn best(gates: Vec<Gate>, rows: &[Row<'_>], deepest: usize) -> Gate {
    let mut found: Option<(f64, Gate)> = None;
    for gate in gates {
        let worth = utility(&gate, rows, deepest);
        if found.as_ref().is_none_or(|(most, _)| worth > *most + 1e-12) {
            found = Some((worth, gate));
        }
    }
    found.map_or_else(|| always(deepest, 0.3), |(_, gate)| gate)
}

/// Depths and shares that are tried.
fn choices(deepest: usize) -> impl Iterator<Item = (usize, f32)> {
    let depths = [deepest / 2, deepest].into_iter().filter(|depth| *depth >= 2);
    depths.flat_map(|depth| SHARES.map(|share| (depth, share)))
}

/// What reading `depth` candidates costs in nDCG@10.
fn cost(depth: usize, deepest: usize) -> f64 {
    COST * depth as f64 / deepest.max(1) as f64
}

/// The best depth and share when every query is read.
fn learn_always(rows: &[Row<'_>], deepest: usize) -> Gate {
    best(choices(deepest).map(|(depth, share)| always(depth, share)).collect(), rows, deepest)
}

/// For each depth and share learns from every query what reading gains, weighted by how much, then from which
/// probability on to read; the best of all.
fn learn_gate(rows: &[Row<'_>], deepest: usize) -> anyhow::Result<Gate> {
    let sets = rows.iter().map(|row| row.set).max().map_or(0, |last| last + 1);
    let sizes: Vec<usize> = (0..sets).map(|set| rows.iter().filter(|row| row.set == set).count()).collect();
    let mut gates = Vec::new();
    for (depth, blend) in choices(deepest) {
        let samples: Vec<Sample<FEATURE_COUNT>> = rows
            .iter()
            .map(|row| {
                let gain = row.head.ndcg(depth, blend) - row.head.ndcg(0, blend) - cost(depth, deepest);
                Sample {
                    features: row.head.features.map(f64::from),
                    positive: gain > 0.0,
                    weight: gain.abs() / sizes[row.set] as f64,
                }
            })
            .collect();
        let fit = logistic(&samples, RIDGE)?;
        gates.extend(PROBABILITIES.map(|probability| Gate {
            name: String::new(),
            intercept: fit.intercept as f32,
            weights: fit.weights.map(|weight| weight as f32),
            steps: vec![Step { probability, depth, blend }],
        }));
    }
    Ok(best(gates, rows, deepest))
}

/// What was learned, and what it is worth.
pub struct Learned {
    /// The rule for use, learned from everything.
    pub gate: Gate,
    /// Figures of gates on queries they were not learned from.
    pub gated: CrossValidation,
    /// Whether a gate was worth more than reading every query; if not, `gate` reads every query.
    pub gate_won: bool,
}

/// Learns a rule from all of `sets`, and validates rules of its kind on queries and on sets left out.
///
/// The rule is a gate only when gates, learned without the queries they were measured on, were worth more than reading
/// every query; on other sets if there are several, else on other queries.
pub fn learn(sets: &[Heads]) -> anyhow::Result<Learned> {
    let all: Vec<Row<'_>> = rows(sets, |_, _| true);
    let deepest = all.iter().map(|row| row.head.logits.len()).max().unwrap_or(0);
    anyhow::ensure!(
        deepest >= 2,
        "no judged query has two candidates: search.rerank_depth must be at least 2"
    );

    let fold = |head: &Head| usize::from(hash(&head.id)[31]) % FOLDS;
    let mut folds = Vec::new();
    for out in 0..FOLDS {
        let train = rows(sets, |_, head| fold(head) != out);
        folds.push((train, rows(sets, |_, head| fold(head) == out)));
    }
    let mut held_out = Vec::new();
    for out in (0..sets.len()).filter(|_| sets.len() > 1) {
        held_out.push((rows(sets, |set, _| set != out), rows(sets, |set, _| set == out)));
    }
    let folds = validate(sets, folds, deepest)?;
    let held_out = validate(sets, held_out, deepest)?;
    let judge = if sets.len() > 1 { &held_out } else { &folds };
    let spared = |row: &Figures| COST * (1.0 - row.depth / deepest as f64);
    let more: f64 = judge.iter().map(|row| row.gated + spared(row) - row.blended).sum();
    let harmless = judge.iter().all(|row| row.gated >= row.fused.min(row.blended) - HARM);
    let gate_won = more > 1e-9 && harmless;
    let gate = if gate_won { learn_gate(&all, deepest)? } else { learn_always(&all, deepest) };
    Ok(Learned { gate, gated: CrossValidation { folds, held_out }, gate_won })
}

fn rows(sets: &[Heads], keep: impl Fn(usize, &Head) -> bool) -> Vec<Row<'_>> {
    let mut rows = Vec::new();
    for (set, heads) in sets.iter().enumerate() {
        rows.extend(heads.list.iter().filter(|head| keep(set, head)).map(|head| Row { set, head }));
    }
    rows
}

/// Learns from the first of each pair and measures on the second; figures by set.
fn validate(
    sets: &[Heads],
    splits: Vec<(Vec<Row<'_>>, Vec<Row<'_>>)>,
    deepest: usize,
) -> anyhow::Result<Vec<Figures>> {
    let mut sums = vec![(Figures::default(), 0usize); sets.len()];
    for (train, test) in splits {
        if train.is_empty() {
            continue;
        }
        let (blended, gated) = (learn_always(&train, deepest), learn_gate(&train, deepest)?);
        for Row { set, head } in test {
            let (figures, queries) = &mut sums[set];
            let (ndcg, depth) = outcome(&gated, head);
            figures.fused += head.ndcg(0, 0.0);
            figures.blended += outcome(&blended, head).0;
            figures.gated += ndcg;
            figures.depth += depth as f64;
            *queries += 1;
        }
    }
    let mean = |(set, (figures, queries)): (usize, (Figures, usize))| {
        let of = |sum: f64| sum / queries.max(1) as f64;
        (queries > 0).then(|| Figures {
            dataset: sets[set].dataset.clone(),
            fused: of(figures.fused),
            blended: of(figures.blended),
            gated: of(figures.gated),
            depth: of(figures.depth),
        })
    };
    Ok(sums.into_iter().enumerate().filter_map(mean).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A query whose second post is moved up by reading: it is the relevant one when that `helps`.
    fn head(id: usize, gap_next: f32, helps: bool) -> Head {
        let logits = vec![-8.0, 8.0, -8.0];
        let mut features = [0.0; FEATURE_COUNT];
        features[0] = gap_next;
        let gains = if helps { vec![0.0, 1.0, 0.0, 0.0] } else { vec![1.0, 0.0, 0.0, 0.0] };
        Head { id: id.to_string(), features, fused: vec![0.52, 0.51, 0.5], logits, gains, ideal: 1.0 }
    }

    fn set(name: &str, list: Vec<Head>) -> Heads {
        Heads { dataset: name.into(), split: "train".into(), list }
    }

    #[test]
    fn a_gap_that_tells_is_learned() {
        let list =
            |from: usize| (from..from + 80).map(|n| head(n, (n % 10) as f32 / 10.0, n % 10 < 5)).collect();
        let learned = learn(&[set("a", list(0)), set("b", list(1000))]).expect("learned");
        assert!(learned.gate_won);
        assert!(learned.gate.weights[0] < 0.0, "{:?}", learned.gate);
        let depth = |gap_next| {
            let gate = &learned.gate;
            gate.choose(&bowerbird_search::gate::Features { gap_next, ..Default::default() }).depth
        };
        assert_eq!((depth(0.0), depth(0.9)), (3, 0));
        for row in learned.gated.folds.iter().chain(&learned.gated.held_out) {
            assert!(row.gated > row.blended + 0.1 && row.gated >= row.fused, "{row:?}");
            assert!(row.depth < 2.5, "{row:?}");
        }
        assert_eq!(learned.gated.held_out.len(), 2);
    }

    #[test]
    fn without_a_telling_feature_every_query_is_read() {
        let list = (0..100).map(|n| head(n, 0.5, n % 4 != 0)).collect();
        let learned = learn(&[set("a", list)]).expect("learned");
        assert!(!learned.gate_won);
        assert_eq!(learned.gate.choose(&bowerbird_search::gate::Features::default()).depth, 3);
        assert!(learned.gated.held_out.is_empty() && learned.gated.folds.len() == 1);
        assert!(learn(&[set("none", Vec::new())]).is_err());
    }
}
