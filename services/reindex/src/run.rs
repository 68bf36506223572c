//! Working a plan off.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bowerbird_live::{Building, Live};
use bowerbird_scheduler::Encoders;
use bowerbird_search::Engine;
use parking_lot::{Condvar, Mutex};
use serde::Serialize;
use tokio::runtime::Handle;

use crate::compare::{compare, from_posts};
use crate::given::add_given;
use crate::plan::{CutOver, Plan, ShadowQuery, ShadowSource, State};
use crate::{Passages, PastQueries, ReindexError};

/// Posts of one lexical commit.
const WORDS: usize = 512;
/// Posts embedded between two looks at the controls.
const VECTORS: usize = 32;
/// The new generation is level when no more than this is left; the rest is added while writes wait.
const LEVEL_WORDS: u64 = 256;
/// Likewise; these posts get their vectors after the generation has taken over, as fresh posts do.
const LEVEL_VECTORS: u64 = 64;
/// Pause after a step that failed.
const RETRY: Duration = Duration::from_secs(2);
/// How often a waiting generation takes in what was written.
const WAITING_STEP: Duration = Duration::from_millis(500);
/// Time over which the rate is measured.
const RATE_WINDOW: Duration = Duration::from_secs(30);
/// Past queries that are drawn when none are given.
const PAST_QUERIES: usize = 200;

/// What a rebuild is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Loading the embedder, opening the generation.
    #[default]
    Opening,
    /// Taking vectors from part files.
    Reading,
    /// Adding posts.
    Adding,
    /// Building the graph over the vectors.
    Sealing,
    /// Asking the shadow queries and counting.
    Comparing,
    /// Level with the post store, until it may take over.
    Level,
    /// Ended.
    Ended,
}

/// How far a rebuild is.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Progress {
    /// What it is doing.
    pub phase: Phase,
    /// Live posts.
    pub posts: u64,
    /// Those that its lexical index lacks.
    pub words_left: u64,
    /// Those without a vector.
    pub vectors_left: u64,
    /// Posts embedded each second, lately.
    pub posts_per_second: f64,
    /// Seconds until every post has its vector, at that rate; none when it is not known.
    pub seconds_left: Option<f64>,
    /// Why it does not come on, while it does not.
    pub error: Option<String>,
}

/// What somebody wants of a rebuild.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Wish {
    #[default]
    GoOn,
    Pause,
    /// Take over now, whatever the shadow queries said.
    TakeOver,
    /// End, and remove what was built.
    Cancel,
    /// End; a later start goes on.
    Stop,
}

#[derive(Default)]
pub(crate) struct Control {
    wish: Mutex<Wish>,
    changed: Condvar,
    pub progress: Mutex<Progress>,
}

impl Control {
    pub fn wish(&self) -> Wish {
        *self.wish.lock()
    }

    pub fn set(&self, wish: Wish) {
        let mut now = self.wish.lock();
        // Nothing undoes an end.
        if !matches!(*now, Wish::Cancel | Wish::Stop) {
            *now = wish;
        }
        self.changed.notify_all();
    }

    fn is_ending(&self) -> bool {
        matches!(self.wish(), Wish::Cancel | Wish::Stop)
    }

    /// Sleeps, or less when a wish comes.
    fn rest(&self, time: Duration) {
        let mut wish = self.wish.lock();
        if !matches!(*wish, Wish::Cancel | Wish::Stop) {
            self.changed.wait_for(&mut wish, time);
        }
    }
}

/// What a rebuild works with.
pub(crate) struct Context {
    pub live: Live,
    pub engine: Engine,
    pub past: PastQueries,
    pub encoders: Encoders,
    pub runtime: Handle,
    pub control: Arc<Control>,
    pub plan: Arc<Mutex<Plan>>,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The new generation serves.
    Done,
    /// A condition does not hold.
    Refused,
    /// Somebody cancelled it.
    Cancelled,
    /// The process closes.
    Stopped,
}

/// Builds, compares and takes over, as the plan says.
pub(crate) fn run(context: &Context) -> Result<Ended, ReindexError> {
    let Context { live, engine, encoders, .. } = context;
    let workers = encoders.status().workers.max(1);
    let source = Arc::new(Passages::rebuild(encoders.clone(), workers));
    engine.add_embedder(encoders.clone());
    let (number, spec) = {
        let plan = context.plan.lock();
        (plan.number, plan.spec())
    };
    let mut building =
        live.build(number, &spec, Arc::clone(&source) as Arc<dyn bowerbird_live::VectorSource>)?;
    let mut pace = Pace::new(context, source.clone(), workers);

    let given = context.plan.lock().vectors.clone();
    if let Some(dir) = given {
        context.control.progress.lock().phase = Phase::Reading;
        let taken = add_given(live, &building, &dir, &|| !context.control.is_ending())?;
        tracing::info!(taken, dir = %dir.display(), "took vectors from part files");
    }
    if let Some(ended) = add_posts(context, &mut building, &mut pace)? {
        return Ok(ended);
    }
    context.control.progress.lock().phase = Phase::Sealing;
    building.seal()?;
    if let Some(ended) = add_posts(context, &mut building, &mut pace)? {
        return Ok(ended);
    }

    context.control.progress.lock().phase = Phase::Comparing;
    let (queries, origin) = shadow_queries(context)?;
    let go_on = || !context.control.is_ending();
    let compared = context.runtime.block_on(compare(live, engine, &building, (&queries, origin), &go_on));
    let comparison = match compared {
        Err(ReindexError::Stopped) => return Ok(ended(context)),
        other => other?,
    };
    let reasons = comparison.reasons(&context.plan.lock().require);
    let agrees = comparison.shards_that_differ.is_empty();
    let cut_over = context.plan.lock().cut_over;
    let next = match (reasons.is_empty(), cut_over) {
        (false, CutOver::Auto) => State::Refused,
        (_, CutOver::Manual) => State::Waiting,
        (true, CutOver::Auto) => State::Building,
    };
    change(context, |plan| {
        plan.comparison = Some(comparison);
        plan.reasons = reasons;
        plan.state = next;
    })?;
    if next == State::Refused {
        return Ok(Ended::Refused);
    }

    loop {
        if let Some(ended) = add_posts(context, &mut building, &mut pace)? {
            return Ok(ended);
        }
        context.control.progress.lock().phase = Phase::Level;
        let wanted = next == State::Building || context.control.wish() == Wish::TakeOver;
        if wanted && agrees {
            break;
        }
        if wanted {
            context.control.progress.lock().error = Some("shards differ from the post store".into());
        }
        context.control.rest(WAITING_STEP);
    }
    // Before the step, so that a crash after it finds where to go back to.
    let replaced = live.snapshot().generation();
    change(context, |plan| plan.replaced = Some(replaced))?;
    building.cut_over()?;
    source.serve();
    tracing::info!(generation = number, replaced, "a new generation serves");
    change(context, |plan| plan.state = State::Done)?;
    Ok(Ended::Done)
}

/// Adds posts until the generation is level with the post store; an end when somebody wants one.
fn add_posts(
    context: &Context,
    building: &mut Building,
    pace: &mut Pace<'_>,
) -> Result<Option<Ended>, ReindexError> {
    let Context { control, live, .. } = context;
    // What is written from now on may still be on its way at the end.
    let horizon = live.status().next_ordinal;
    loop {
        match control.wish() {
            Wish::Cancel | Wish::Stop => return Ok(Some(ended(context))),
            Wish::Pause => {
                pace.forget();
                control.rest(Duration::from_hours(1));
                continue;
            }
            Wish::GoOn | Wish::TakeOver => {}
        }
        let begun = Instant::now();
        pace.look_around();
        let words = building.add_words(WORDS)?;
        let vectors = building.add_vectors(VECTORS, &|| control.is_ending());
        pace.did(vectors.done);
        let rate = pace.rate();
        {
            let mut progress = control.progress.lock();
            if progress.phase != Phase::Level {
                progress.phase = Phase::Adding;
            }
            progress.posts = live.snapshot().live().len();
            progress.words_left = words.left;
            progress.vectors_left = vectors.left;
            progress.posts_per_second = rate;
            progress.seconds_left = (rate > 0.0).then(|| vectors.left as f64 / rate);
            progress.error.clone_from(&vectors.error);
        }
        metrics::gauge!("bowerbird_reindex_posts_left").set(vectors.left.max(words.left) as f64);
        let near = words.left <= LEVEL_WORDS && vectors.left <= LEVEL_VECTORS;
        if near && building.level() >= horizon {
            return Ok(None);
        }
        if let Some(error) = vectors.error.filter(|_| vectors.done == 0 && words.done == 0) {
            tracing::warn!(error, "a rebuild does not come on; trying again");
            control.rest(RETRY);
        }
        let share = context.plan.lock().share;
        if share < 1.0 {
            control.rest(begun.elapsed().mul_f64(1.0 / share - 1.0));
        }
    }
}

fn ended(context: &Context) -> Ended {
    if context.control.wish() == Wish::Cancel { Ended::Cancelled } else { Ended::Stopped }
}

fn change(context: &Context, change: impl FnOnce(&mut Plan)) -> Result<(), ReindexError> {
    let mut plan = context.plan.lock();
    change(&mut plan);
    plan.save(&context.live)
}

/// The queries of the plan, else past ones, else words of posts.
fn shadow_queries(context: &Context) -> Result<(Vec<ShadowQuery>, ShadowSource), ReindexError> {
    let given = context.plan.lock().queries.clone();
    if !given.is_empty() {
        return Ok((given, ShadowSource::Given));
    }
    let past = (context.past)(PAST_QUERIES);
    if past.is_empty() {
        return Ok((from_posts(&context.live)?, ShadowSource::Posts));
    }
    let query = |q| ShadowQuery { q, relevant: BTreeMap::new() };
    Ok((past.into_iter().map(query).collect(), ShadowSource::Log))
}

/// Measures the rate, and keeps a processor free while people search.
struct Pace<'a> {
    context: &'a Context,
    source: Arc<Passages>,
    workers: usize,
    searches: (u64, Instant),
    recent: VecDeque<(Instant, u64)>,
}

impl<'a> Pace<'a> {
    /// People count as present for so long after a search.
    const PRESENT: Duration = Duration::from_secs(2);

    fn new(context: &'a Context, source: Arc<Passages>, workers: usize) -> Self {
        let searches = (context.engine.searches(), Instant::now());
        let mut pace = Self { context, source, workers, searches, recent: VecDeque::new() };
        pace.forget();
        pace
    }

    /// Half of the workers while people search, all of them else. The queue starts a query before a post anyway; this
    /// leaves a worker that does not have to finish one first.
    fn look_around(&mut self) {
        let searches = self.context.engine.searches();
        if searches > self.searches.0 {
            self.searches = (searches, Instant::now());
        }
        let present = searches > 0 && self.searches.1.elapsed() < Self::PRESENT;
        self.source.set_at_once(if present { (self.workers / 2).max(1) } else { VECTORS });
    }

    fn did(&mut self, posts: u64) {
        let now = Instant::now();
        self.recent.push_back((now, posts));
        while self.recent.len() > 2 && self.recent.front().is_some_and(|(at, _)| now - *at > RATE_WINDOW) {
            self.recent.pop_front();
        }
    }

    /// Posts each second, over the steps after the first that is remembered.
    fn rate(&self) -> f64 {
        let (Some(first), Some(last)) = (self.recent.front(), self.recent.back()) else { return 0.0 };
        let posts: u64 = self.recent.iter().skip(1).map(|(_, posts)| posts).sum();
        let seconds = (last.0 - first.0).as_secs_f64();
        if seconds > 0.0 { posts as f64 / seconds } else { 0.0 }
    }

    /// After a pause the rate is measured anew.
    fn forget(&mut self) {
        self.recent.clear();
        self.recent.push_back((Instant::now(), 0));
    }
}
