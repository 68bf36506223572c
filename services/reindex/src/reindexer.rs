//! The handle that the rest of the process holds.

use std::error::Error;
use std::sync::Arc;
use std::thread::JoinHandle;

use bowerbird_live::{GenerationInfo, Live, VectorSource};
use bowerbird_scheduler::Encoders;
use bowerbird_search::Engine;
use parking_lot::Mutex;
use tokio::runtime::Handle;

use crate::plan::{Plan, State};
use crate::run::{Context, Control, Ended, Phase, Progress, Wish, run};
use crate::{Passages, ReindexError};

/// Space that must stay free beside the new generation, as a share of it: segments that are merged are there twice for
/// a while.
const MARGIN: f64 = 0.5;
/// Bytes of a post in both indexes, when nothing can be measured yet.
const POST_BYTES: u64 = 4096;

/// Gives the encoders that embed with the model of this name.
pub type LoadEmbedder = Arc<dyn Fn(&str) -> Result<Encoders, Box<dyn Error + Send + Sync>> + Send + Sync>;

/// Gives up to so many queries that people asked, the most asked first.
pub type PastQueries = Arc<dyn Fn(usize) -> Vec<String> + Send + Sync>;

/// A rebuild as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct Rebuild {
    /// Its plan.
    pub plan: Plan,
    /// How far it is; that of the end when it is over.
    pub progress: Progress,
}

/// Begins, watches and ends rebuilds of one data directory, one at a time. Cheap to clone. Dropping the last clone
/// stops a rebuild after the step it is in; the next process goes on with [`resume_open`](Self::resume_open).
#[derive(Clone)]
pub struct Reindexer(Arc<Inner>);

struct Inner {
    live: Live,
    engine: Engine,
    past: PastQueries,
    load: LoadEmbedder,
    job: Mutex<Option<Job>>,
}

struct Job {
    plan: Arc<Mutex<Plan>>,
    control: Arc<Control>,
    thread: Option<JoinHandle<()>>,
}

impl Job {
    fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Reindexer {
    /// Rebuilds for `live`, which `engine` searches. Shadow queries that a plan does not give come from `past`.
    pub fn new(live: Live, engine: Engine, past: PastQueries, load: LoadEmbedder) -> Self {
        Self(Arc::new(Inner { live, engine, past, load, job: Mutex::default() }))
    }

    /// Begins a rebuild and gives its id. One of the same settings that was begun and has not served goes on instead,
    /// under the conditions given now. Blocks while the model is loaded; must be called within a tokio runtime.
    pub fn start(&self, plan: Plan) -> Result<String, ReindexError> {
        plan.check()?;
        let mut job = self.0.idle()?;
        let begun = self.0.begun()?;
        let plan = if let Some(same) = begun.iter().rfind(|begun| begun.builds_like(&plan)) {
            let Plan { require, cut_over, share, queries, vectors, .. } = plan;
            let reasons = Vec::new();
            Plan {
                require,
                cut_over,
                share,
                queries,
                vectors,
                reasons,
                state: State::Building,
                ..same.clone()
            }
        } else if let Some(other) = begun.iter().find(|begun| begun.state.is_open()) {
            return Err(ReindexError::Running { id: other.id() });
        } else {
            self.0.fresh(plan)?
        };
        self.0.begin(&mut job, plan, Wish::GoOn)
    }

    /// Goes on with a rebuild that an earlier process left; its id when there is one. One that was paused stays so.
    pub fn resume_open(&self) -> Result<Option<String>, ReindexError> {
        let mut job = self.0.idle()?;
        let Some(plan) = self.0.begun()?.into_iter().rfind(|plan| plan.state.is_open()) else {
            return Ok(None);
        };
        let wish = if plan.state == State::Paused { Wish::Pause } else { Wish::GoOn };
        self.0.begin(&mut job, plan, wish).map(Some)
    }

    /// A rebuild by its id, also one that is over while its generation is there.
    pub fn status(&self, id: &str) -> Result<Rebuild, ReindexError> {
        if let Some(job) = &*self.0.job.lock() {
            let plan = job.plan.lock().clone();
            if plan.id() == id {
                let mut progress = job.control.progress.lock().clone();
                // Also when its thread panicked and could not say so.
                if job.is_over() {
                    progress.phase = Phase::Ended;
                }
                return Ok(Rebuild { plan, progress });
            }
        }
        let number = id.strip_prefix("reindex-").and_then(|number| number.parse().ok());
        let plan = number.map(|number| Plan::load(&self.0.live, number)).transpose()?.flatten();
        let plan = plan.ok_or_else(|| ReindexError::NotFound { id: id.chars().take(80).collect() })?;
        Ok(Rebuild { plan, progress: Progress { phase: Phase::Ended, ..Progress::default() } })
    }

    /// All rebuilds whose generations are there, by number.
    pub fn list(&self) -> Result<Vec<Rebuild>, ReindexError> {
        let mut all = Vec::new();
        for generation in self.0.live.generations()? {
            if let Some(plan) = Plan::load(&self.0.live, generation.number)? {
                all.push(self.status(&plan.id())?);
            }
        }
        Ok(all)
    }

    /// The generations on disk.
    pub fn generations(&self) -> Result<Vec<GenerationInfo>, ReindexError> {
        Ok(self.0.live.generations()?)
    }

    /// Pauses a rebuild, also over restarts.
    pub fn pause(&self, id: &str) -> Result<(), ReindexError> {
        self.0.wish(id, Wish::Pause, State::Paused)
    }

    /// Goes on after a pause.
    pub fn resume(&self, id: &str) -> Result<(), ReindexError> {
        self.0.wish(id, Wish::GoOn, State::Building)
    }

    /// Lets a generation that waits take over, whatever the shadow queries said.
    pub fn take_over(&self, id: &str) -> Result<(), ReindexError> {
        let guard = self.0.job.lock();
        let job = running(guard.as_ref(), id)?;
        let state = job.plan.lock().state;
        if state != State::Waiting {
            let message = "it takes over by itself, or cannot: only one that waits can be told to";
            return Err(ReindexError::State { id: id.into(), state: state.name(), message });
        }
        job.control.set(Wish::TakeOver);
        Ok(())
    }

    /// Ends a rebuild and removes what it built; also one that was refused or failed. Blocks until it is gone.
    pub fn cancel(&self, id: &str) -> Result<(), ReindexError> {
        let mut guard = self.0.job.lock();
        if running(guard.as_ref(), id).is_ok()
            && let Some(job) = guard.as_mut()
        {
            job.control.set(Wish::Cancel);
            if let Some(thread) = job.thread.take() {
                drop(thread.join());
            }
            if job.plan.lock().state == State::Done {
                let message = "it has just taken over: roll it back instead";
                return Err(ReindexError::State { id: id.into(), state: State::Done.name(), message });
            }
            *guard = None;
        }
        drop(guard);
        let plan = match self.status(id) {
            Err(ReindexError::NotFound { .. }) => return Ok(()),
            other => other?.plan,
        };
        if plan.number == self.0.live.snapshot().generation() {
            let message = "it serves: roll it back instead";
            return Err(ReindexError::State { id: id.into(), state: plan.state.name(), message });
        }
        self.0.live.remove_generation(plan.number)?;
        Ok(())
    }

    /// Makes the generation serve again that the present one took over from; gives its number. Posts written since get
    /// their vectors in it afterwards. Blocks for as long as its lexical index takes to come up to the post store.
    pub fn rollback(&self) -> Result<u32, ReindexError> {
        let mut idle = self.0.idle()?;
        let live = &self.0.live;
        let current = live.snapshot().generation();
        let plan = Plan::load(live, current)?;
        let earlier = plan.as_ref().and_then(|plan| plan.replaced);
        let generations = live.generations()?;
        let earlier = generations.into_iter().find(|generation| Some(generation.number) == earlier);
        let Some(GenerationInfo { number, spec, space: Some((space, _)), .. }) = earlier else {
            return Err(ReindexError::NoEarlier);
        };
        let encoders = self.0.load(embedder_of(&space))?;
        let source = Arc::new(Passages::fresh(encoders.clone()));
        self.0.engine.add_embedder(encoders);
        live.build(number, &spec, source as Arc<dyn VectorSource>)?.cut_over()?;
        if let Some(mut plan) = plan {
            plan.state = State::RolledBack;
            plan.save(live)?;
        }
        // From now on the file says how it stands.
        *idle = None;
        tracing::info!(generation = number, replaced = current, "went back to an earlier generation");
        Ok(number)
    }

    /// Removes every generation that neither serves nor is being built; gives the bytes freed. Cursors that lead into
    /// them expire, and there is nothing left to roll back to.
    pub fn prune(&self) -> Result<u64, ReindexError> {
        let guard = self.0.job.lock();
        let building = guard.as_ref().filter(|job| !job.is_over()).map(|job| job.plan.lock().number);
        let open = self.0.begun()?.into_iter().rfind(|plan| plan.state.is_open()).map(|plan| plan.number);
        let mut freed = 0;
        for generation in self.0.live.generations()? {
            let kept = generation.current || [building, open].contains(&Some(generation.number));
            if !kept {
                freed += self.0.live.remove_generation(generation.number)?;
            }
        }
        if building.is_none() {
            self.0.engine.keep_embedder(self.0.live.snapshot().vectors().space());
        }
        Ok(freed)
    }
}

/// Name of the model in the fingerprint of its space.
pub fn embedder_of(space: &str) -> &str {
    space.split('/').next().unwrap_or_default()
}

fn running<'a>(job: Option<&'a Job>, id: &str) -> Result<&'a Job, ReindexError> {
    let found = job.filter(|job| !job.is_over() && job.plan.lock().id() == id);
    found.ok_or_else(|| ReindexError::NotFound { id: id.chars().take(80).collect() })
}

impl Inner {
    /// The place of the one rebuild, when none is under way.
    fn idle(&self) -> Result<parking_lot::MutexGuard<'_, Option<Job>>, ReindexError> {
        let job = self.job.lock();
        match job.as_ref().filter(|job| !job.is_over()) {
            Some(job) => Err(ReindexError::Running { id: job.plan.lock().id() }),
            None => Ok(job),
        }
    }

    /// The plans that were begun and have not served, by number. One whose generation serves was finished by a process
    /// that ended before it could note so.
    fn begun(&self) -> Result<Vec<Plan>, ReindexError> {
        let mut begun = Vec::new();
        for generation in self.live.generations()? {
            let Some(mut plan) = Plan::load(&self.live, generation.number)? else { continue };
            if plan.state.has_served() {
                continue;
            }
            if generation.current {
                plan.state = State::Done;
                plan.save(&self.live)?;
            } else {
                begun.push(plan);
            }
        }
        Ok(begun)
    }

    /// Gives a new plan its number and checks that there is something to do, and room for it.
    fn fresh(&self, plan: Plan) -> Result<Plan, ReindexError> {
        let generations = self.live.generations()?;
        let current = generations.iter().find(|generation| generation.current);
        if let Some(current) = current {
            let same_space =
                current.space.as_ref().is_some_and(|(space, _)| embedder_of(space) == plan.embedder);
            if same_space && current.spec == plan.spec() {
                return Err(ReindexError::Nothing);
            }
            self.require_room(current.bytes)?;
        }
        let last = generations.iter().map(|generation| generation.number).max().unwrap_or(1);
        Ok(Plan { number: last + 1, state: State::Building, ..plan })
    }

    fn require_room(&self, present_bytes: u64) -> Result<(), ReindexError> {
        let posts = self.live.snapshot().live().len();
        let estimate = present_bytes.max(posts * POST_BYTES);
        let need_bytes = estimate + (estimate as f64 * MARGIN) as u64 + self.live.config().reserve.as_u64();
        match self.live.free_bytes() {
            Some(free_bytes) if free_bytes < need_bytes => {
                Err(ReindexError::NoRoom { path: self.live.root().to_path_buf(), need_bytes, free_bytes })
            }
            _ => Ok(()),
        }
    }

    fn load(&self, name: &str) -> Result<Encoders, ReindexError> {
        (self.load)(name)
            .map_err(|error| ReindexError::Embedder { name: name.into(), message: error.to_string() })
    }

    fn begin(&self, job: &mut Option<Job>, plan: Plan, wish: Wish) -> Result<String, ReindexError> {
        let id = plan.id();
        let encoders = self.load(&plan.embedder)?;
        // Makes the directory, with its settings, for the plan to lie in.
        let source = Arc::new(Passages::fresh(encoders.clone()));
        drop(self.live.build(plan.number, &plan.spec(), source as Arc<dyn VectorSource>)?);
        plan.save(&self.live)?;
        let (plan, control) = (Arc::new(Mutex::new(plan)), Arc::new(Control::default()));
        control.set(wish);
        let context = Context {
            live: self.live.clone(),
            engine: self.engine.clone(),
            past: Arc::clone(&self.past),
            encoders,
            runtime: Handle::current(),
            control: Arc::clone(&control),
            plan: Arc::clone(&plan),
        };
        let work = move || work(&context);
        let thread = std::thread::Builder::new().name("bowerbird-reindex".into()).spawn(work);
        let thread = thread.map_err(|source| ReindexError::Io {
            action: "start thread",
            path: "bowerbird-reindex".into(),
            source,
        })?;
        *job = Some(Job { plan, control, thread: Some(thread) });
        Ok(id)
    }

    fn wish(&self, id: &str, wish: Wish, state: State) -> Result<(), ReindexError> {
        let guard = self.job.lock();
        let job = running(guard.as_ref(), id)?;
        let mut plan = job.plan.lock();
        if !matches!(plan.state, State::Building | State::Paused) {
            let message = "only a rebuild that adds posts can be paused and resumed";
            return Err(ReindexError::State { id: id.into(), state: plan.state.name(), message });
        }
        plan.state = state;
        plan.save(&self.live)?;
        job.control.set(wish);
        Ok(())
    }
}

/// The life of the thread of a rebuild.
fn work(context: &Context) {
    let ended = run(context);
    let mut plan = context.plan.lock();
    match ended {
        Ok(Ended::Refused) => {
            tracing::warn!(
                id = plan.id(),
                reasons = plan.reasons.join("; "),
                "the new generation does not serve"
            );
        }
        Ok(Ended::Done | Ended::Cancelled | Ended::Stopped) | Err(ReindexError::Stopped) => {}
        Err(error) => {
            tracing::error!(id = plan.id(), %error, "a rebuild failed");
            plan.reasons = vec![error.to_string()];
            plan.state = State::Failed;
            if let Err(error) = plan.save(&context.live) {
                tracing::error!(%error, "that a rebuild failed could not be noted");
            }
        }
    }
    context.control.progress.lock().phase = Phase::Ended;
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(mut job) = self.job.get_mut().take()
            && let Some(thread) = job.thread.take()
        {
            job.control.set(Wish::Stop);
            drop(thread.join());
        }
    }
}
