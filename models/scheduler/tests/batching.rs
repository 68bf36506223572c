//! The batching policy against a device that is simulated: virtual time, seeded arrivals, no threads.
#![expect(clippy::print_stderr, reason = "what the policy reaches is worth reading")]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bowerbird_scheduler::former::{BatchFormer, Shape};
use bowerbird_scheduler::queue::{Popped, Queue};
use bowerbird_scheduler::{BatchPolicy, Patience, Priority};

/// Microseconds of a call and of each padded token in it: a small encoder on a large GPU, about.
const CALL_US: f64 = 2000.0;
const TOKEN_US: f64 = 1.0;

#[derive(Clone, Debug)]
struct Item {
    number: usize,
    priority: Priority,
    shape: Shape,
    arrives_us: u64,
    /// After arrival.
    patience_us: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Done { started_us: u64, done_us: u64, batch: usize },
    Refused { at_us: u64 },
}

/// xorshift64 with a fixed seed.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    /// Time to the next of arrivals that come independently, `per_second` on average.
    fn gap_us(&mut self, per_second: f64) -> u64 {
        let share = (self.below(1_000_000) + 1) as f64 / 1e6;
        (-share.ln() * 1e6 / per_second) as u64
    }
}

/// What a run of the simulation is made of.
struct World {
    batching: bool,
    /// Whether arrivals and the queue know what things cost.
    shedding: bool,
    arrivals: Vec<Item>,
    /// Background items that are always there, as a rebuild keeps the queue full of them.
    background: VecDeque<Item>,
    until_us: u64,
}

struct Report {
    /// By number of the item.
    fates: Vec<Option<Fate>>,
    batches: Vec<(Priority, usize)>,
    end_us: u64,
}

fn shape(tokens: usize) -> Shape {
    Shape { model: 0, tokens, rows: 1 }
}

fn run(mut world: World) -> Report {
    let zero = Instant::now();
    let at = |us: u64| zero + Duration::from_micros(us);
    let policy = BatchPolicy::default();
    let mut former = BatchFormer::new(policy);
    let mut queue: Queue<Item> = Queue::new(4096, Patience::default());
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let items = world.arrivals.len() + world.background.len();
    let mut report = Report { fates: vec![None; items], batches: Vec::new(), end_us: 0 };
    world.arrivals.sort_by_key(|item| (item.arrives_us, item.number));
    let mut arrivals = world.arrivals.into_iter().peekable();
    let mut now = 0;
    let mut busy_until: Option<u64> = None;
    while now < world.until_us {
        while let Some(item) = arrivals.next_if(|item| item.arrives_us <= now) {
            let deadline = item.patience_us.map(|us| at(item.arrives_us + us));
            let hopeless =
                world.shedding && deadline.is_some_and(|end| former.is_hopeless(item.shape, end, at(now)));
            let (number, priority) = (item.number, item.priority);
            if hopeless || queue.push(item, priority, deadline, at(now)).is_err() {
                report.fates[number] = Some(Fate::Refused { at_us: now });
            }
        }
        while let Some(item) = world.background.pop_front() {
            let priority = item.priority;
            if let Err(item) = queue.push(item, priority, None, at(now)) {
                world.background.push_front(item);
                break;
            }
        }
        if busy_until.is_none_or(|until| until <= now) {
            busy_until = None;
            let mut refuse = |popped: Popped<Item>| {
                let (Popped::Expired(item) | Popped::Late(item) | Popped::Gone(item)) = popped else {
                    panic!("a start is no refusal");
                };
                report.fates[item.number] = Some(Fate::Refused { at_us: now });
            };
            let (started, padded) = if world.batching {
                let formed = former.form(&mut queue, at(now), |item| item.shape, |_| false);
                formed.refused.into_iter().for_each(&mut refuse);
                let items: Vec<Item> = formed.items.into_iter().map(|started| started.item).collect();
                (items, formed.padded_tokens)
            } else {
                loop {
                    match queue.pop(at(now), |_| false) {
                        Some(Popped::Start { item, .. }) => {
                            let tokens = item.shape.tokens;
                            break (vec![item], tokens);
                        }
                        Some(other) => refuse(other),
                        None => break (Vec::new(), 0),
                    }
                }
            };
            if let Some(first) = started.first() {
                let noise = 0.9 + 0.2 * random.below(1000) as f64 / 1000.0;
                let took = ((CALL_US + TOKEN_US * padded as f64) * noise) as u64;
                let batch = report.batches.len();
                report.batches.push((first.priority, started.len()));
                for item in &started {
                    let fate = Fate::Done { started_us: now, done_us: now + took, batch };
                    assert_eq!(report.fates[item.number].replace(fate), None, "an item runs once");
                    let late = item.patience_us.is_some_and(|us| now >= item.arrives_us + us);
                    assert!(!late, "started after its deadline: {item:?} at {now}");
                }
                if world.shedding {
                    former.ran(0, padded, Duration::from_micros(took));
                }
                busy_until = Some(now + took);
                report.end_us = now + took;
            }
        }
        let next = [busy_until, arrivals.peek().map(|item| item.arrives_us)].into_iter().flatten().min();
        let Some(next) = next else { break };
        now = next;
    }
    report
}

fn world(arrivals: Vec<Item>) -> World {
    World { batching: true, shedding: true, arrivals, background: VecDeque::new(), until_us: u64::MAX }
}

/// `per_second` items for `seconds`, of 8 to 135 tokens.
fn stream(
    first: usize,
    priority: Priority,
    per_second: f64,
    seconds: u64,
    patience_us: Option<u64>,
) -> Vec<Item> {
    let mut random = Random(first as u64 + 77);
    let mut items = Vec::new();
    let mut at = 0;
    loop {
        at += random.gap_us(per_second);
        if at >= seconds * 1_000_000 {
            return items;
        }
        let shape = shape(8 + random.below(128) as usize);
        items.push(Item { number: first + items.len(), priority, shape, arrives_us: at, patience_us });
    }
}

fn background(first: usize, items: usize) -> VecDeque<Item> {
    let item = |n| Item {
        number: first + n,
        priority: Priority::Bulk,
        shape: shape(20 + n % 100),
        arrives_us: 0,
        patience_us: None,
    };
    (0..items).map(item).collect()
}

/// Milliseconds from arrival to result of the items before `items`, sorted.
fn latencies(report: &Report, items: &[Item]) -> Vec<f64> {
    let mut ms: Vec<f64> = items
        .iter()
        .map(|item| match report.fates[item.number] {
            Some(Fate::Done { done_us, .. }) => (done_us - item.arrives_us) as f64 / 1e3,
            other => panic!("{other:?} of {item:?}"),
        })
        .collect();
    ms.sort_by(f64::total_cmp);
    ms
}

#[test]
fn batches_multiply_the_throughput() {
    let mut some = stream(0, Priority::Rerank, 10_000.0, 1, None);
    some.truncate(2000);
    for item in &mut some {
        item.arrives_us = 0;
    }
    let together = run(world(some.clone()));
    let alone = run(World { batching: false, ..world(some) });
    let ratio = alone.end_us as f64 / together.end_us as f64;
    eprintln!(
        "2000 items: {} us in {} batches, {} us alone",
        together.end_us,
        together.batches.len(),
        alone.end_us
    );
    assert!(ratio > 15.0, "{ratio}");
    assert!(together.fates.iter().all(|fate| matches!(fate, Some(Fate::Done { .. }))), "every item is done");
}

#[test]
fn a_query_waits_for_one_background_batch_at_most() {
    let queries = stream(0, Priority::QueryEmbedding, 100.0, 10, None);
    let quiet = latencies(&run(world(queries.clone())), &queries);
    let mut loaded = world(queries.clone());
    loaded.background = background(queries.len(), 400_000);
    loaded.until_us = 10_500_000;
    let report = run(loaded);
    let busy = latencies(&report, &queries);
    let p99 = |sorted: &[f64]| sorted[sorted.len() * 99 / 100];
    let bulk: usize = report.batches.iter().filter(|(p, _)| *p == Priority::Bulk).map(|(_, n)| n).sum();
    eprintln!("p99 {} ms alone, {} ms beside {bulk} bulk texts", p99(&quiet), p99(&busy));
    let policy = BatchPolicy::default();
    let background_ms = (CALL_US + TOKEN_US * policy.background_tokens as f64) * 1.1 / 1e3;
    // And for queries of other lengths that came meanwhile.
    let bound = p99(&quiet) + background_ms + 2.0 * CALL_US / 1e3;
    assert!(p99(&busy) <= bound, "{} ms, expected {bound} at most", p99(&busy));
    // What queries leave of the device goes to bulk work.
    assert!(bulk > 20_000, "{bulk} texts in ten seconds");
}

#[test]
fn nobody_starves_under_a_flood_of_reranks() {
    // Twice what the device can do.
    let flood = stream(0, Priority::Rerank, 20_000.0, 5, None);
    let mut arrivals = flood.clone();
    let first = arrivals.len();
    for (n, priority) in [Priority::QueryEmbedding, Priority::AnswerCheck, Priority::Ingest, Priority::Bulk]
        .into_iter()
        .enumerate()
    {
        arrivals.push(Item {
            number: first + n,
            priority,
            shape: shape(100),
            arrives_us: 100_000,
            patience_us: None,
        });
    }
    let report = run(World { until_us: 5_000_000, ..world(arrivals) });
    let Some(before) = report
        .fates
        .iter()
        .flatten()
        .filter_map(|fate| match fate {
            Fate::Done { started_us, batch, .. } if *started_us <= 100_000 => Some(*batch),
            _ => None,
        })
        .max()
    else {
        panic!("nothing ran at first")
    };
    for (n, patience) in [2, 8, 32, 128].into_iter().enumerate() {
        let Some(Fate::Done { batch, .. }) = report.fates[first + n] else {
            panic!("item {n} of the lower lanes did not run");
        };
        assert!(
            batch - before <= patience + 5,
            "it waited for {} batches, patience is {patience}",
            batch - before
        );
    }
    let refused = report.fates[..first].iter().filter(|f| matches!(f, Some(Fate::Refused { .. }))).count();
    assert!(refused > 0, "the flood is more than the device can do");
}

#[test]
fn within_a_lane_the_oldest_leads_whatever_its_length() {
    // A long text among short ones: no batch of short ones is formed twice before it.
    let mut arrivals: Vec<Item> = stream(0, Priority::QueryEmbedding, 20_000.0, 2, None);
    for item in &mut arrivals {
        item.shape = shape(12);
    }
    let number = arrivals.len();
    arrivals.push(Item {
        number,
        priority: Priority::QueryEmbedding,
        shape: shape(400),
        arrives_us: 500_000,
        patience_us: None,
    });
    let report = run(world(arrivals));
    let Some(Fate::Done { started_us, .. }) = report.fates[number] else { panic!("it did not run") };
    let longest_us = (CALL_US + TOKEN_US * 16_384.0) * 1.1;
    assert!(((started_us - 500_000) as f64) < 2.0 * longest_us, "{started_us}");
}

#[test]
fn under_overload_what_is_started_is_done_in_time() {
    let patience_us = 60_000;
    let arrivals = stream(0, Priority::Rerank, 20_000.0, 5, Some(patience_us));
    let count = |report: &Report| {
        let (mut in_time, mut late, mut refused_early, mut refused) = (0, 0, 0, 0);
        for item in &arrivals {
            let end = item.arrives_us + patience_us;
            match report.fates[item.number] {
                Some(Fate::Done { done_us, .. }) if done_us <= end => in_time += 1,
                Some(Fate::Done { .. }) => late += 1,
                Some(Fate::Refused { at_us }) => {
                    refused += 1;
                    refused_early += usize::from(at_us < end);
                }
                None => panic!("neither done nor refused: {item:?}"),
            }
        }
        (in_time, late, refused_early, refused)
    };
    let knowing = count(&run(world(arrivals.clone())));
    let blind = count(&run(World { shedding: false, ..world(arrivals.clone()) }));
    eprintln!("in time, late, refused early, refused: {knowing:?}, without costs {blind:?}");
    let (in_time, late, early, refused) = knowing;
    assert!(late * 20 < in_time, "{late} of {in_time} were late: the noise of a call is a tenth");
    assert!(early > 0 && early <= refused, "hopeless items are told before their deadline");
    assert!(in_time > blind.0 * 11 / 10, "work that comes too late is no use: {in_time}, {}", blind.0);
}

/// One item a call, as on a processor: five lanes at one and a half times the capacity, for ten seconds.
#[test]
fn one_item_a_call_starts_nothing_late_and_starves_no_lane() {
    let lanes = [
        (Priority::Rerank, Some(400_000)),
        (Priority::QueryEmbedding, Some(400_000)),
        (Priority::AnswerCheck, Some(2_000_000)),
        (Priority::Ingest, None),
        (Priority::Bulk, None),
    ];
    // About 480 items a second can be done.
    let mut arrivals = Vec::new();
    for (priority, patience_us) in lanes {
        let more = stream(arrivals.len(), priority, 144.0, 10, patience_us);
        arrivals.extend(more);
    }
    let processor =
        World { batching: false, shedding: false, until_us: 10_000_000, ..world(arrivals.clone()) };
    let report = run(processor);
    let done = |lane: Priority| {
        let items = arrivals.iter().filter(|item| item.priority == lane);
        items.filter(|item| matches!(report.fates[item.number], Some(Fate::Done { .. }))).count()
    };
    let counts = lanes.map(|(lane, _)| done(lane));
    eprintln!("done of 1440 or so a lane: {counts:?}");
    // `run` has seen that nothing started after its deadline. People who wait are served nearly whole, and of the
    // rest each lane got its share: one item in 129 is the least.
    assert!(counts[0] > 1300 && counts[1] > 1300, "{counts:?}");
    assert!(counts[3] > 100 && counts[4] >= 4800 / 129, "{counts:?}");
}
