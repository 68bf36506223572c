//! Who is served next: the scheduling policy, without threads, clock or models. Time is passed in.
//!
//! One lane for each [`Priority`], first come first served within a lane, the highest lane first. Three rules bend
//! that:
//!
//! - **Turns.** The items of one request take turns with those of others in their lane: the n-th item of a request
//!   stands beside the n-th items of those that came meanwhile, so that a page of 16 does not wait for a request of
//!   thousands. Each `STARTS_PER_TURN` starts the turn moves on by itself: however many small requests come, a large
//!   one gets an item in nine.
//! - **Ageing.** A lane with waiting items counts the items of higher lanes that start before it. When the count
//!   reaches the lane's [`Patience`], the lane is overdue and its oldest item is next; of several overdue lanes the
//!   highest goes first. A lane's count is zeroed when it is served. So an item at the head of its lane starts after
//!   at most `patience + 3` others (the other overdue lanes, one each), however many items of higher priority come.
//! - **Room.** Ingest and bulk work together may fill half of the queue, bulk alone a quarter: the rest is kept for
//!   people who wait.
//!
//! An item whose deadline has passed or whose caller has gone is handed back instead of started.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How urgent an item is, most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Scores that a page of results waits for: the last stage, with the least time left.
    Rerank,
    /// Vector of a query: the first stage of the next page.
    QueryEmbedding,
    /// Checks of sentences of a running answer.
    AnswerCheck,
    /// Vectors of fresh posts.
    Ingest,
    /// Vectors of a rebuild or a bulk load.
    Bulk,
}

impl Priority {
    /// All priorities, most urgent first.
    pub const ALL: [Self; 5] =
        [Self::Rerank, Self::QueryEmbedding, Self::AnswerCheck, Self::Ingest, Self::Bulk];

    /// Name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rerank => "rerank",
            Self::QueryEmbedding => "query_embedding",
            Self::AnswerCheck => "answer_check",
            Self::Ingest => "ingest",
            Self::Bulk => "bulk",
        }
    }
}

/// How many items of higher priority may start before a waiting lane is served.
///
/// The defaults: a query embedding costs a third of a rerank item, and the whole next page waits for it, so it waits
/// for two; fresh posts get one item in 33 at the worst, which is one post in half a second with two workers at
/// 15 ms an item; bulk work gets one in 129.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For [`Priority::QueryEmbedding`].
    pub query_embedding: u32,
    /// For [`Priority::AnswerCheck`].
    pub answer_check: u32,
    /// For [`Priority::Ingest`].
    pub ingest: u32,
    /// For [`Priority::Bulk`].
    pub bulk: u32,
}

impl Default for Patience {
    fn default() -> Self {
        Self { query_embedding: 2, answer_check: 8, ingest: 32, bulk: 128 }
    }
}

impl Patience {
    fn of(self, priority: Priority) -> u32 {
        match priority {
            Priority::Rerank => u32::MAX, // nothing is above it
            Priority::QueryEmbedding => self.query_embedding,
            Priority::AnswerCheck => self.answer_check,
            Priority::Ingest => self.ingest,
            Priority::Bulk => self.bulk,
        }
    }
}

/// Starts in a lane after which its turn moves on, whatever was started.
const STARTS_PER_TURN: u32 = 8;

/// A bounded queue with priorities, turns, ageing and deadlines.
#[derive(Debug)]
pub struct Queue<T> {
    limit: usize,
    patience: Patience,
    lanes: [Lane<T>; 5],
}

#[derive(Debug)]
struct Lane<T> {
    /// By turn, and by arrival within a turn.
    waiting: VecDeque<Waiting<T>>,
    passed_over: u32,
    /// Where the lane stands, and how many starts ago it came there.
    turn: u64,
    starts: u32,
}

#[derive(Debug)]
pub(crate) struct Waiting<T> {
    pub(crate) item: T,
    pub(crate) arrived: Instant,
    pub(crate) deadline: Option<Instant>,
    pub(crate) turn: u64,
}

/// What comes out of the queue.
#[derive(Debug, PartialEq, Eq)]
pub enum Popped<T> {
    /// To be run now.
    Start {
        /// The item.
        item: T,
        /// Its lane.
        priority: Priority,
        /// How long it waited.
        waited: Duration,
    },
    /// Not to be run: its deadline has passed.
    Expired(T),
    /// Not to be run: by the measured costs it would be done after its deadline.
    Late(T),
    /// Not to be run: nobody waits for it.
    Gone(T),
}

impl<T> Queue<T> {
    /// An empty queue for at most `limit` items.
    pub fn new(limit: usize, patience: Patience) -> Self {
        let lanes =
            Priority::ALL.map(|_| Lane { waiting: VecDeque::new(), passed_over: 0, turn: 0, starts: 0 });
        Self { limit, patience, lanes }
    }

    /// Items waiting.
    pub fn len(&self) -> usize {
        self.lanes.iter().map(|lane| lane.waiting.len()).sum()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Items waiting in one lane.
    pub fn waiting(&self, priority: Priority) -> usize {
        self.lanes[priority as usize].waiting.len()
    }

    /// How many items of this priority fit now.
    pub fn room(&self, priority: Priority) -> usize {
        let free = self.limit.saturating_sub(self.len());
        let bulk = self.waiting(Priority::Bulk);
        let background = bulk + self.waiting(Priority::Ingest);
        let share = |part: usize, used: usize| (self.limit / part).max(1).saturating_sub(used);
        match priority {
            Priority::Ingest => free.min(share(2, background)),
            Priority::Bulk => free.min(share(2, background)).min(share(4, bulk)),
            _ => free,
        }
    }

    /// Adds the only item of a request, or gives it back when there is no room.
    pub fn push(
        &mut self,
        item: T,
        priority: Priority,
        deadline: Option<Instant>,
        now: Instant,
    ) -> Result<(), T> {
        self.push_nth(0, item, priority, deadline, now)
    }

    /// Adds the `nth` item of a request, counted from 0, or gives it back when there is no room.
    pub fn push_nth(
        &mut self,
        nth: usize,
        item: T,
        priority: Priority,
        deadline: Option<Instant>,
        now: Instant,
    ) -> Result<(), T> {
        if self.room(priority) == 0 {
            return Err(item);
        }
        let lane = &mut self.lanes[priority as usize];
        let turn = lane.turn + nth as u64;
        let place = lane.waiting.partition_point(|waiting| waiting.turn <= turn);
        lane.waiting.insert(place, Waiting { item, arrived: now, deadline, turn });
        Ok(())
    }

    /// Takes the next item; `gone` tells whether nobody waits for an item any more.
    pub fn pop(&mut self, now: Instant, gone: impl Fn(&T) -> bool) -> Option<Popped<T>> {
        let priority = self.next_lane()?;
        let Waiting { item, arrived, deadline, turn } = self.lane(priority).pop_front()?;
        let popped = if deadline.is_some_and(|deadline| deadline <= now) {
            Popped::Expired(item)
        } else if gone(&item) {
            Popped::Gone(item)
        } else {
            self.started(priority, turn);
            self.served(priority);
            Popped::Start { item, priority, waited: now.saturating_duration_since(arrived) }
        };
        let lane = &mut self.lanes[priority as usize];
        if lane.waiting.is_empty() {
            lane.passed_over = 0;
        }
        Some(popped)
    }

    /// Takes out every item that would not be started, to make room.
    pub fn sweep(&mut self, now: Instant, gone: impl Fn(&T) -> bool) -> Vec<Popped<T>> {
        let mut dead = Vec::new();
        for lane in &mut self.lanes {
            for waiting in std::mem::take(&mut lane.waiting) {
                if waiting.deadline.is_some_and(|deadline| deadline <= now) {
                    dead.push(Popped::Expired(waiting.item));
                } else if gone(&waiting.item) {
                    dead.push(Popped::Gone(waiting.item));
                } else {
                    lane.waiting.push_back(waiting);
                }
            }
            if lane.waiting.is_empty() {
                lane.passed_over = 0;
            }
        }
        dead
    }

    /// Takes out everything.
    pub fn drain(&mut self) -> impl Iterator<Item = T> {
        self.lanes.iter_mut().flat_map(|lane| {
            lane.passed_over = 0;
            lane.waiting.drain(..).map(|waiting| waiting.item)
        })
    }

    /// Takes out, in order, every item that `judge` wants; each is [`Popped::Late`].
    pub(crate) fn take_where(&mut self, mut judge: impl FnMut(&Waiting<T>) -> bool) -> Vec<Popped<T>> {
        let mut taken = Vec::new();
        for lane in &mut self.lanes {
            for waiting in std::mem::take(&mut lane.waiting) {
                if judge(&waiting) {
                    taken.push(Popped::Late(waiting.item));
                } else {
                    lane.waiting.push_back(waiting);
                }
            }
            if lane.waiting.is_empty() {
                lane.passed_over = 0;
            }
        }
        taken
    }

    /// The items of one lane, oldest first.
    pub(crate) fn lane(&mut self, priority: Priority) -> &mut VecDeque<Waiting<T>> {
        &mut self.lanes[priority as usize].waiting
    }

    /// Moves the turn of a lane on, one of whose items was started.
    pub(crate) fn started(&mut self, priority: Priority, turn: u64) {
        let lane = &mut self.lanes[priority as usize];
        lane.starts += 1;
        if turn > lane.turn {
            (lane.turn, lane.starts) = (turn, 0);
        } else if lane.starts >= STARTS_PER_TURN {
            (lane.turn, lane.starts) = (lane.turn + 1, 0);
        }
    }

    /// Counts that a lane was served before those below it.
    pub(crate) fn served(&mut self, priority: Priority) {
        self.lanes[priority as usize].passed_over = 0;
        for lower in &mut self.lanes[priority as usize + 1..] {
            lower.passed_over =
                if lower.waiting.is_empty() { 0 } else { lower.passed_over.saturating_add(1) };
        }
    }

    /// The lane whose oldest item is next.
    pub(crate) fn next_lane(&self) -> Option<Priority> {
        let waits = |priority: &Priority| self.waiting(*priority) > 0;
        let overdue =
            |priority: &Priority| self.lanes[*priority as usize].passed_over >= self.patience.of(*priority);
        let mut waiting = Priority::ALL.into_iter().filter(waits);
        let first = waiting.clone().next()?;
        Some(waiting.find(overdue).unwrap_or(first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Priority::{AnswerCheck, Bulk, Ingest, QueryEmbedding, Rerank};

    /// A clock that moves only when told.
    struct Clock(Instant);

    impl Clock {
        fn at(&self, ms: u64) -> Instant {
            self.0 + Duration::from_millis(ms)
        }
    }

    fn clock() -> Clock {
        Clock(Instant::now())
    }

    fn starts<T>(popped: Option<Popped<T>>) -> T {
        match popped {
            Some(Popped::Start { item, .. }) => item,
            _ => panic!("something should start"),
        }
    }

    #[test]
    fn lanes_by_urgency_and_order_of_arrival_inside() {
        let clock = clock();
        let mut queue = Queue::new(100, Patience::default());
        for (item, priority) in [
            ("b1", Bulk),
            ("i1", Ingest),
            ("a1", AnswerCheck),
            ("q1", QueryEmbedding),
            ("r1", Rerank),
            ("r2", Rerank),
        ] {
            queue.push(item, priority, None, clock.at(0)).expect("room");
        }
        let order: Vec<&str> = (0..6).map(|_| starts(queue.pop(clock.at(5), |_| false))).collect();
        assert_eq!(order, ["r1", "r2", "q1", "a1", "i1", "b1"]);
        assert_eq!(queue.pop(clock.at(5), |_| false), None);
    }

    #[test]
    fn waiting_time_is_measured() {
        let clock = clock();
        let mut queue = Queue::new(1, Patience::default());
        queue.push((), Rerank, None, clock.at(3)).expect("room");
        let expected = Popped::Start { item: (), priority: Rerank, waited: Duration::from_millis(7) };
        assert_eq!(queue.pop(clock.at(10), |()| false), Some(expected));
    }

    #[test]
    fn a_long_rerank_does_not_hold_up_a_query_embedding() {
        let clock = clock();
        let mut queue = Queue::new(1000, Patience::default());
        for i in 0..200 {
            queue.push(format!("r{i}"), Rerank, None, clock.at(0)).expect("room");
        }
        queue.push("q".into(), QueryEmbedding, None, clock.at(0)).expect("room");
        let order: Vec<String> = (0..201).map(|_| starts(queue.pop(clock.at(1), |_| false))).collect();
        assert_eq!(order.iter().position(|item| item == "q"), Some(2), "after two rerank items");
        assert_eq!(order[3], "r2");
    }

    #[test]
    fn nobody_starves_while_every_other_lane_stays_full() {
        for patient in [QueryEmbedding, AnswerCheck, Ingest, Bulk] {
            let clock = clock();
            let patience = Patience::default();
            let mut queue = Queue::new(1000, patience);
            let others = Priority::ALL.into_iter().filter(|p| *p != patient);
            for other in others.cycle().take(100) {
                queue.push(other, other, None, clock.at(0)).expect("room");
            }
            queue.push(patient, patient, None, clock.at(0)).expect("room");
            let mut before = 0;
            loop {
                let started = starts(queue.pop(clock.at(0), |_| false));
                if started == patient {
                    break;
                }
                queue.push(started, started, None, clock.at(0)).expect("what started makes room");
                before += 1;
                assert!(before < 1000, "{patient:?} starves");
            }
            assert!(before <= patience.of(patient) + 3, "{patient:?} waited for {before}");
        }
    }

    #[test]
    fn urgent_work_keeps_most_of_the_machine_under_a_flood_of_everything() {
        let clock = clock();
        let mut queue = Queue::new(1000, Patience::default());
        for priority in Priority::ALL.into_iter().cycle().take(100) {
            queue.push(priority, priority, None, clock.at(0)).expect("room");
        }
        let mut started = [0; 5];
        for _ in 0..3000 {
            let priority = starts(queue.pop(clock.at(0), |_| false));
            started[priority as usize] += 1;
            queue.push(priority, priority, None, clock.at(0)).expect("room");
        }
        assert!(started[Rerank as usize] > 1500, "{started:?}");
        assert!(started.iter().all(|n| *n > 15), "{started:?}");
    }

    #[test]
    fn requests_of_a_lane_take_turns() {
        let clock = clock();
        let mut queue = Queue::new(5000, Patience::default());
        let now = clock.at(0);
        for n in 0..1000 {
            queue.push_nth(n, "large", Rerank, None, now).expect("room");
        }
        for _ in 0..10 {
            assert_eq!(starts(queue.pop(now, |_| false)), "large");
        }
        for n in 0..16 {
            queue.push_nth(n, "small", Rerank, None, now).expect("room");
        }
        let order: Vec<&str> = (0..40).map(|_| starts(queue.pop(now, |_| false))).collect();
        let done = order.iter().rposition(|item| *item == "small").expect("is there");
        assert_eq!(order.iter().filter(|item| **item == "small").count(), 16);
        assert!(done <= 33, "the small request is done after {done} starts: {order:?}");
    }

    #[test]
    fn a_large_request_does_not_starve_among_small_ones() {
        let clock = clock();
        let mut queue = Queue::new(100, Patience::default());
        let now = clock.at(0);
        for n in 0..20 {
            queue.push_nth(n, "large", Rerank, None, now).expect("room");
        }
        let (mut starts_so_far, mut left) = (0, 20);
        while left > 0 {
            queue.push("small", Rerank, None, now).expect("room");
            left -= usize::from(starts(queue.pop(now, |_| false)) == "large");
            starts_so_far += 1;
            assert!(starts_so_far < 1000, "{left} of the large request are left");
        }
        assert!(starts_so_far <= 20 * 10, "an item in nine: {starts_so_far}");
    }

    #[test]
    fn bulk_leaves_room_for_people() {
        let clock = clock();
        let mut queue = Queue::new(8, Patience::default());
        let mut fill = |priority| {
            let mut n = 0;
            while queue.push((), priority, None, clock.at(0)).is_ok() {
                n += 1;
            }
            n
        };
        assert_eq!(
            [fill(Bulk), fill(Ingest), fill(Bulk), fill(QueryEmbedding), fill(Rerank)],
            [2, 2, 0, 4, 0]
        );
        let mut tiny = Queue::new(1, Patience::default());
        assert!(tiny.push((), Bulk, None, clock.at(0)).is_ok(), "even a queue of one takes bulk work");
    }

    #[test]
    fn dead_items_are_handed_back_and_make_room() {
        let clock = clock();
        let mut queue = Queue::new(3, Patience::default());
        queue.push("late", Rerank, Some(clock.at(10)), clock.at(0)).expect("room");
        queue.push("left", Rerank, None, clock.at(0)).expect("room");
        queue.push("good", Rerank, Some(clock.at(11)), clock.at(0)).expect("room");
        assert_eq!(queue.push("more", Rerank, None, clock.at(10)), Err("more"));
        let gone = |item: &&str| *item == "left";
        assert_eq!(queue.sweep(clock.at(10), gone), [Popped::Expired("late"), Popped::Gone("left")]);
        queue.push("more", Rerank, None, clock.at(10)).expect("room again");
        assert_eq!(starts(queue.pop(clock.at(10), gone)), "good");
        assert_eq!(starts(queue.pop(clock.at(99), gone)), "more");
    }

    /// Random arrivals and services on a virtual clock: nothing starts late, nothing is lost, the bound holds.
    #[test]
    fn nothing_starts_after_its_deadline_and_nothing_is_lost() {
        let clock = clock();
        let mut random = 0x2545_F491_4F6C_DD1Du64; // xorshift64, fixed seed
        let mut next = move |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        let mut queue = Queue::new(50, Patience::default());
        let (mut pushed, mut refused, mut started, mut expired, mut gone) = (0, 0, 0, 0, 0);
        let mut now = 0;
        for step in 0..20_000u64 {
            now += next(3);
            if next(2) == 0 {
                let deadline = (next(3) > 0).then(|| now + next(60));
                let priority = Priority::ALL[next(5) as usize];
                let at = deadline.map(|ms| clock.at(ms));
                match queue.push((step, deadline), priority, at, clock.at(now)) {
                    Ok(()) => pushed += 1,
                    Err(_) => refused += 1,
                }
                assert!(queue.len() <= 50);
            } else if next(3) > 0 {
                match queue.pop(clock.at(now), |(step, _)| step % 10 == 0) {
                    Some(Popped::Start { item: (step, deadline), .. }) => {
                        assert!(deadline.is_none_or(|deadline| deadline > now), "started late");
                        assert_ne!(step % 10, 0, "started for nobody");
                        started += 1;
                    }
                    Some(Popped::Expired(_)) => expired += 1,
                    Some(Popped::Gone(_)) => gone += 1,
                    Some(Popped::Late(_)) => panic!("nothing here knows costs"),
                    None => assert!(queue.is_empty()),
                }
            }
        }
        assert_eq!(pushed, started + expired + gone + queue.drain().count());
        assert!(queue.is_empty());
        for (what, n) in [("refused", refused), ("started", started), ("expired", expired), ("gone", gone)] {
            assert!(n > 100, "the run has too few {what}: {n}");
        }
    }
}
