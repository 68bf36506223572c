//! Which items run together: the batching policy of a device that is fast at many rows, without threads, clock or
//! models. Time is passed in.
//!
//! A batch is formed at the moment the device becomes free, of what came while it was busy; nothing waits for mates.
//!
//! - **Lead.** The [`Queue`] names the lane, with its ageing; its oldest item leads, so an item is served by the time
//!   its lane was served as often as items stood before it. [`Patience`](crate::Patience) counts batches here.
//! - **Mates.** Items for the same model and of the same length bucket, in the order of the lanes. Shorter ones join
//!   as long as the padding of all of them costs less than the call that they save, by the measured costs.
//! - **Budget.** Rows times padded length stays within a number of tokens. People share no batch with background
//!   work, and the budget of background batches is smaller: it is how long a person may find the device taken.
//! - **Deadlines.** An item that cannot be done in time even alone is handed back. A mate that would make any item of
//!   the batch late stays in the queue. When a full batch of a bucket waits, its items must have the time of a full
//!   batch: served in order of age, the oldest would else cut every batch down to what little time they have left, and
//!   an overloaded device would do less the more it is asked.
//!
//! How long a batch takes is measured: a line through padded tokens and seconds, old measurements fading.

use std::time::{Duration, Instant};

use bowerbird_models_api::{BATCH_LENGTHS, BATCH_ROWS, BATCH_TOKENS};

use crate::Priority;
use crate::queue::{Popped, Queue, Waiting};

/// Kinds of model a batch can be for.
const MODELS: usize = 3;
/// Length buckets.
const STEPS: usize = BATCH_LENGTHS.len();
/// What a measurement weighs after each later one.
const FADING: f64 = 0.98;
/// Measurements before costs are believed.
const ENOUGH: f64 = 4.0;
/// Time allowed for a batch, in that expected: calls vary.
const MARGIN: f64 = 1.1;
/// Of so many items in a row that seem hopeless one is started all the same: it corrects an estimate that is wrong,
/// which nothing else would when nothing is started.
const PROBE: u32 = 64;

/// Bounds of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchPolicy {
    /// Lengths in tokens that rows are padded to, rising.
    pub ladder: [usize; STEPS],
    /// Most tokens of a batch, padding counted.
    pub tokens: usize,
    /// The same for ingest and bulk work.
    pub background_tokens: usize,
    /// Most items of a batch.
    pub items: usize,
}

impl Default for BatchPolicy {
    fn default() -> Self {
        Self {
            ladder: BATCH_LENGTHS,
            tokens: BATCH_TOKENS,
            background_tokens: BATCH_TOKENS / 2,
            items: BATCH_ROWS,
        }
    }
}

impl BatchPolicy {
    /// The length that rows of `tokens` are padded to; the longest for what is longer, which models cut.
    pub fn padded(&self, tokens: usize) -> usize {
        self.ladder[self.step(tokens)]
    }

    /// Place of that length in the ladder.
    fn step(&self, tokens: usize) -> usize {
        self.ladder.iter().position(|step| tokens <= *step).unwrap_or(STEPS - 1)
    }

    /// What is wrong with the numbers.
    pub(crate) fn problem(&self) -> Option<String> {
        let rising = self.ladder[0] > 0 && self.ladder.windows(2).all(|pair| pair[0] < pair[1]);
        if !rising {
            return Some(format!("batch lengths {:?} must rise from at least 1", self.ladder));
        }
        let least = self.tokens.min(self.background_tokens);
        if self.items == 0 || least < self.padded(usize::MAX) {
            let longest = self.padded(usize::MAX);
            return Some(format!("a batch needs at least 1 item and {longest} tokens, its longest row"));
        }
        None
    }
}

/// What an item asks of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Which model: 0 the embedder, 1 the reranker, from 2 on embedders that were added.
    pub model: usize,
    /// Tokens of its longest row, at least about: an estimate that is off costs padding.
    pub tokens: usize,
    /// Rows; a long passage has one for each window.
    pub rows: usize,
}

/// An item of a batch.
#[derive(Debug)]
pub struct Started<T> {
    /// The item.
    pub item: T,
    /// Its lane.
    pub priority: Priority,
    /// How long it waited.
    pub waited: Duration,
}

/// What came out of the queue.
#[derive(Debug)]
pub struct Formed<T> {
    /// To be run together; empty when nothing waits.
    pub items: Vec<Started<T>>,
    /// For which model.
    pub model: usize,
    /// Rows times padded length.
    pub padded_tokens: usize,
    /// Not to be run; never [`Popped::Start`].
    pub refused: Vec<Popped<T>>,
}

/// Forms batches for one device.
#[derive(Debug)]
pub struct BatchFormer {
    policy: BatchPolicy,
    costs: [Cost; MODELS],
    free_at: Option<Instant>,
    hopeless: u32,
}

impl BatchFormer {
    /// A former that knows nothing of costs yet, and so sheds only what is past its deadline.
    pub fn new(policy: BatchPolicy) -> Self {
        Self { policy, costs: [Cost::default(); MODELS], free_at: None, hopeless: 0 }
    }

    /// Whether an item that comes while the device is busy cannot be done by `deadline`, even should it be next. When
    /// the device is free, [`BatchFormer::form`] decides.
    pub fn is_hopeless(&self, shape: Shape, deadline: Instant, now: Instant) -> bool {
        self.free_at.is_some_and(|free| free.max(now) + self.alone(shape) > deadline)
    }

    /// Takes the next batch out of `queue`, and everything that is not worth starting; `gone` tells whether nobody
    /// waits for an item any more.
    pub fn form<T>(
        &mut self,
        queue: &mut Queue<T>,
        now: Instant,
        shape: impl Fn(&T) -> Shape,
        gone: impl Fn(&T) -> bool,
    ) -> Formed<T> {
        let mut refused = queue.sweep(now, gone);
        let mut hopeless = self.hopeless;
        let backlog = self.backlog(queue, &shape);
        refused.extend(queue.take_where(|waiting| {
            let Some(end) = waiting.deadline else { return false };
            let shape = shape(&waiting.item);
            let (model, step) = (shape.model.min(MODELS - 1), self.policy.step(shape.tokens));
            let full = backlog[model][step] >= self.policy.tokens;
            let needed = if full { self.costs[model].within(self.policy.tokens) } else { self.alone(shape) };
            let late = now + needed > end;
            hopeless += u32::from(late);
            late && !hopeless.is_multiple_of(PROBE)
        }));
        self.hopeless = hopeless % PROBE;
        let mut formed = Formed { items: Vec::new(), model: 0, padded_tokens: 0, refused };
        let Some(lead) = queue.next_lane() else { return formed };
        let Some(first) = queue.lane(lead).pop_front() else { return formed };

        let mut batch =
            Filling::new(&self.policy, &self.costs, lead, now, shape(&first.item), first.deadline);
        queue.started(lead, first.turn);
        formed.items.push(started(first, lead, now));
        let background = |priority| priority >= Priority::Ingest;
        let others = Priority::ALL.into_iter().filter(|p| *p != lead && background(*p) == background(lead));
        for priority in std::iter::once(lead).chain(others) {
            for waiting in std::mem::take(queue.lane(priority)) {
                if formed.items.len() < self.policy.items
                    && batch.takes(shape(&waiting.item), waiting.deadline)
                {
                    queue.started(priority, waiting.turn);
                    formed.items.push(started(waiting, priority, now));
                } else {
                    queue.lane(priority).push_back(waiting);
                }
            }
        }
        queue.served(lead);
        formed.model = batch.model;
        formed.padded_tokens = batch.rows * batch.length;
        self.free_at = Some(now + batch.cost.within(formed.padded_tokens));
        formed
    }

    /// Tells how long the batch formed last took; the device is free again.
    pub fn ran(&mut self, model: usize, padded_tokens: usize, took: Duration) {
        self.costs[model.min(MODELS - 1)].measured(padded_tokens, took);
        self.free_at = None;
        self.hopeless = 0;
    }

    fn alone(&self, shape: Shape) -> Duration {
        self.costs[shape.model.min(MODELS - 1)].within(self.policy.padded(shape.tokens) * shape.rows)
    }

    /// Padded tokens that people wait for, by model and length bucket.
    fn backlog<T>(&self, queue: &mut Queue<T>, shape: &impl Fn(&T) -> Shape) -> [[usize; STEPS]; MODELS] {
        let mut backlog = [[0; STEPS]; MODELS];
        for priority in Priority::ALL.into_iter().filter(|priority| *priority < Priority::Ingest) {
            for waiting in queue.lane(priority).iter() {
                let shape = shape(&waiting.item);
                let step = self.policy.step(shape.tokens);
                backlog[shape.model.min(MODELS - 1)][step] += self.policy.ladder[step] * shape.rows;
            }
        }
        backlog
    }
}

fn started<T>(waiting: Waiting<T>, priority: Priority, now: Instant) -> Started<T> {
    let waited = now.saturating_duration_since(waiting.arrived);
    Started { item: waiting.item, priority, waited }
}

/// A batch while it is put together.
struct Filling<'a> {
    policy: &'a BatchPolicy,
    cost: Cost,
    model: usize,
    length: usize,
    rows: usize,
    budget: usize,
    /// Tokens of padding that shorter mates brought.
    padding: usize,
    now: Instant,
    end: Option<Instant>,
}

impl<'a> Filling<'a> {
    fn new(
        policy: &'a BatchPolicy,
        costs: &[Cost; MODELS],
        lead: Priority,
        now: Instant,
        shape: Shape,
        deadline: Option<Instant>,
    ) -> Self {
        let model = shape.model.min(MODELS - 1);
        let budget = if lead >= Priority::Ingest { policy.background_tokens } else { policy.tokens };
        let length = policy.padded(shape.tokens);
        Self {
            policy,
            cost: costs[model],
            model,
            length,
            rows: shape.rows,
            budget,
            padding: 0,
            now,
            end: deadline,
        }
    }

    /// Adds an item, or says that it does not fit.
    fn takes(&mut self, shape: Shape, deadline: Option<Instant>) -> bool {
        let own = self.policy.padded(shape.tokens);
        let rows = self.rows + shape.rows;
        if shape.model != self.model || own > self.length || rows * self.length > self.budget {
            return false;
        }
        let padding = self.padding + (self.length - own) * shape.rows;
        if own < self.length && !self.cost.saves(padding) {
            return false;
        }
        let end = [self.end, deadline].into_iter().flatten().min();
        if end.is_some_and(|end| self.now + self.cost.within(rows * self.length) > end) {
            return false;
        }
        (self.rows, self.padding, self.end) = (rows, padding, end);
        true
    }
}

/// Sums of a least-squares line through (padded tokens, seconds).
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    n: f64,
    x: f64,
    y: f64,
    xx: f64,
    xy: f64,
}

impl Cost {
    fn measured(&mut self, tokens: usize, took: Duration) {
        let (x, y) = (tokens as f64, took.as_secs_f64());
        // Far faster than expected: what was known is out of date, and must not go on shedding work.
        if took * 2 < self.of(tokens) {
            *self = Self::default();
        }
        for (sum, new) in [
            (&mut self.n, 1.0),
            (&mut self.x, x),
            (&mut self.y, y),
            (&mut self.xx, x * x),
            (&mut self.xy, x * y),
        ] {
            *sum = *sum * FADING + new;
        }
    }

    /// Seconds of a call, and of each token in it; neither is negative. Zeros while too little is known.
    fn line(&self) -> (f64, f64) {
        if self.n < ENOUGH || self.x <= 0.0 {
            return (0.0, 0.0);
        }
        let spread = self.xx - self.x * self.x / self.n;
        // All of one size: the share of the call is not to be told from that of the tokens.
        let slope =
            if spread > 1e-6 * self.xx { (self.xy - self.x * self.y / self.n) / spread } else { f64::MAX };
        let slope = slope.clamp(0.0, self.y / self.x);
        (((self.y - slope * self.x) / self.n).max(0.0), slope)
    }

    fn of(&self, tokens: usize) -> Duration {
        let (call, token) = self.line();
        Duration::try_from_secs_f64(call + token * tokens as f64).unwrap_or_default()
    }

    /// Time to allow for so many tokens.
    fn within(&self, tokens: usize) -> Duration {
        self.of(tokens).mul_f64(MARGIN)
    }

    /// Whether so many tokens of padding cost less than a call.
    fn saves(&self, padding: usize) -> bool {
        let (call, token) = self.line();
        token * (padding as f64) < call
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Patience;
    use Priority::{AnswerCheck, Bulk, Ingest, QueryEmbedding, Rerank};

    const ONE: Shape = Shape { model: 0, tokens: 16, rows: 1 };

    fn former(call_ms: f64, token_us: f64) -> BatchFormer {
        let mut former =
            BatchFormer::new(BatchPolicy { tokens: 1024, background_tokens: 512, ..BatchPolicy::default() });
        for tokens in [100, 200, 400, 800, 1600] {
            let took = Duration::from_secs_f64(call_ms / 1e3 + token_us / 1e6 * f64::from(tokens));
            for model in 0..MODELS {
                former.ran(model, tokens as usize, took);
            }
        }
        former
    }

    fn queue(items: &[(Priority, Shape, Option<u64>)], start: Instant) -> Queue<(usize, Shape)> {
        let mut queue = Queue::new(1000, Patience::default());
        for (n, (priority, shape, ms)) in items.iter().enumerate() {
            let deadline = ms.map(|ms| start + Duration::from_millis(ms));
            queue.push((n, *shape), *priority, deadline, start).expect("room");
        }
        queue
    }

    fn numbers(formed: &Formed<(usize, Shape)>) -> Vec<usize> {
        formed.items.iter().map(|started| started.item.0).collect()
    }

    fn formed(
        former: &mut BatchFormer,
        queue: &mut Queue<(usize, Shape)>,
        now: Instant,
    ) -> Formed<(usize, Shape)> {
        former.form(queue, now, |item| item.1, |_| false)
    }

    #[test]
    fn mates_have_one_model_and_one_bucket_and_people_ride_alone() {
        let now = Instant::now();
        let long = Shape { tokens: 100, ..ONE };
        let other = Shape { model: 1, ..ONE };
        let items = [
            (Bulk, ONE, None),
            (QueryEmbedding, ONE, None),
            (AnswerCheck, ONE, None),
            (AnswerCheck, long, None),
            (QueryEmbedding, other, None),
            (Ingest, ONE, None),
            (Rerank, ONE, None),
        ];
        let mut queue = queue(&items, now);
        let mut former = former(0.0, 10.0);
        let batches: Vec<Vec<usize>> = std::iter::from_fn(|| {
            Some(numbers(&formed(&mut former, &mut queue, now))).filter(|b| !b.is_empty())
        })
        .collect();
        assert_eq!(batches, [vec![6, 1, 2], vec![4], vec![3], vec![5, 0]]);
    }

    #[test]
    fn shorter_items_join_while_their_padding_costs_less_than_a_call() {
        let now = Instant::now();
        let items = |n| {
            let mut items = vec![(Rerank, Shape { tokens: 64, ..ONE }, None)];
            items.extend(vec![(Rerank, ONE, None); n]);
            items
        };
        // Each brings 48 tokens of padding, and a call costs as much as 100.
        let mut some = queue(&items(5), now);
        assert_eq!(numbers(&formed(&mut former(1.0, 10.0), &mut some, now)), [0, 1, 2]);
        let mut free = queue(&items(5), now);
        assert_eq!(numbers(&formed(&mut former(1.0, 0.0), &mut free, now)).len(), 6);
        // A longer one never joins: it would make all others longer.
        let mut short = queue(&[(Rerank, ONE, None), (Rerank, Shape { tokens: 64, ..ONE }, None)], now);
        assert_eq!(numbers(&formed(&mut former(9.0, 1.0), &mut short, now)), [0]);
    }

    #[test]
    fn budgets_count_padded_tokens_and_background_has_less() {
        let now = Instant::now();
        let shape = Shape { tokens: 50, rows: 1, ..ONE };
        for (priority, expected) in [(Rerank, 16), (Bulk, 8)] {
            let mut queue = queue(&[(priority, shape, None); 40], now);
            let batch = formed(&mut former(1.0, 1.0), &mut queue, now);
            assert_eq!((batch.items.len(), batch.padded_tokens), (expected, expected * 64), "{priority:?}");
        }
        let windows = Shape { tokens: 300, rows: 3, ..ONE };
        let mut queue = queue(&[(Rerank, windows, None), (Rerank, windows, None)], now);
        let batch = formed(&mut former(1.0, 1.0), &mut queue, now);
        assert_eq!(
            (batch.items.len(), batch.padded_tokens),
            (1, 1536),
            "a lead runs even when it is over the budget"
        );
    }

    #[test]
    fn what_cannot_be_done_in_time_is_handed_back_and_no_mate_makes_another_late() {
        let now = Instant::now();
        // A call of 10 ms and 1.2 ms for each item of 16 tokens.
        let items = [
            (Rerank, ONE, Some(10)),
            (Rerank, ONE, Some(14)),
            (Rerank, ONE, None),
            (Rerank, ONE, Some(100)),
            (Rerank, ONE, None),
        ];
        let mut queue = queue(&items, now);
        let mut former = former(10.0, 75.0);
        let batch = formed(&mut former, &mut queue, now);
        assert!(matches!(batch.refused[..], [Popped::Late((0, _))]), "{:?}", batch.refused);
        assert_eq!(numbers(&batch), [1, 2], "with a third all might be done after 15 ms");
        assert_eq!(numbers(&formed(&mut former, &mut queue, now)), [3, 4]);
        // The device is taken until 13.6 ms; after that an item alone takes up to 12.3.
        let at = |ms| now + Duration::from_millis(ms);
        assert!(former.is_hopeless(ONE, at(20), at(1)) && !former.is_hopeless(ONE, at(30), at(1)));
        former.ran(0, 32, Duration::from_millis(12));
        assert!(!former.is_hopeless(ONE, at(20), at(1)));
    }

    #[test]
    fn when_a_full_batch_waits_the_oldest_do_not_cut_it_down() {
        let now = Instant::now();
        // 1024 tokens take 11.24 ms, an item alone 1.16.
        let mut items = vec![(Rerank, ONE, Some(5)); 3];
        items.extend([(Rerank, ONE, Some(20)); 61]);
        let mut overloaded = queue(&items, now);
        let batch = formed(&mut former(1.0, 10.0), &mut overloaded, now);
        assert_eq!((batch.refused.len(), batch.items.len()), (3, 61));
        let mut idle = queue(&items[..63], now);
        let batch = formed(&mut former(1.0, 10.0), &mut idle, now);
        assert_eq!((batch.refused.len(), batch.items.len()), (0, 22), "all of them done within 5 ms");
    }

    #[test]
    fn an_estimate_that_became_wrong_is_corrected() {
        let start = Instant::now();
        let mut former = former(1000.0, 0.0); // a device that was slow once
        let (mut late, mut ran) = (0, 0);
        for ms in 0..2000u64 {
            let now = start + Duration::from_millis(ms);
            let mut queue = queue(&[(Rerank, ONE, Some(100))], now);
            let batch = formed(&mut former, &mut queue, now);
            late += batch.refused.len();
            if !batch.items.is_empty() {
                ran += 1;
                former.ran(0, 16, Duration::from_millis(1));
            }
        }
        assert!(ran > 500 && late > 50, "{ran} ran, {late} were refused");
    }

    #[test]
    fn a_line_is_found_and_one_size_alone_is_taken_as_proportional() {
        let found = former(3.0, 2.0).costs[0].line();
        assert!((found.0 - 3e-3).abs() < 1e-6 && (found.1 - 2e-6).abs() < 1e-9, "{found:?}");
        let mut one = Cost::default();
        for _ in 0..10 {
            one.measured(100, Duration::from_millis(5));
        }
        assert!((one.of(200).as_secs_f64() - 0.010).abs() < 1e-6, "{:?}", one.line());
        let mut few = Cost::default();
        few.measured(100, Duration::from_mins(1));
        assert_eq!(few.of(100), Duration::ZERO, "a first call that is slow sheds nothing");
    }

    #[test]
    fn numbers_that_do_not_fit_are_named() {
        let good = BatchPolicy::default();
        assert_eq!(good.problem(), None);
        for bad in [
            BatchPolicy { ladder: [16, 32, 64, 64, 192, 256, 512], ..good },
            BatchPolicy { items: 0, ..good },
            BatchPolicy { background_tokens: 511, ..good },
        ] {
            assert!(bad.problem().is_some(), "{bad:?}");
        }
    }
}
