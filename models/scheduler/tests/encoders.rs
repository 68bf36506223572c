//! The encoders as their callers see them, over stub models that can be held, counted and made to panic.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use bowerbird_models_api::stub::{StubEmbedder, StubReranker};
use bowerbird_models_api::{
    Embedder, Embedding, EmbeddingSpace, ModelError, Pair, PairRead, RerankLogit, Reranker, TextRead,
    TextRole,
};
use bowerbird_scheduler::{BatchPolicy, Encoders, EncodersConfig, Job, Priority, SchedulerError};

/// Sees every model call. The text `hold` blocks its worker until released; `panic` panics.
#[derive(Clone)]
struct Watch {
    calls: Arc<Mutex<Vec<String>>>,
    batches: Arc<Mutex<Vec<String>>>,
    held: Sender<()>,
    release: Arc<(Mutex<bool>, Condvar)>,
    dropped: Arc<AtomicUsize>,
}

/// The test's end of a [`Watch`].
struct Control {
    watch: Watch,
    held: Receiver<()>,
}

fn watch() -> Control {
    let (sender, held) = mpsc::channel();
    let watch = Watch {
        calls: Arc::default(),
        batches: Arc::default(),
        held: sender,
        release: Arc::default(),
        dropped: Arc::default(),
    };
    Control { watch, held }
}

impl Watch {
    fn call(&self, text: &str) {
        self.calls.lock().expect("not poisoned").push(text.into());
        match text {
            "hold" => {
                self.held.send(()).expect("the test listens");
                let (released, signal) = &*self.release;
                let guard = released.lock().expect("not poisoned");
                drop(signal.wait_while(guard, |released| !*released).expect("not poisoned"));
            }
            "panic" => panic!("the model broke"),
            _ => {}
        }
    }
}

impl Control {
    fn encoders(&self, workers: usize, queue_items: usize) -> Encoders {
        self.start(EncodersConfig { workers, queue_items, ..EncodersConfig::default() })
    }

    /// One worker that takes batches.
    fn batching(&self, queue_items: usize) -> Encoders {
        let batching = Some(BatchPolicy::default());
        self.start(EncodersConfig { workers: 1, queue_items, batching, ..EncodersConfig::default() })
    }

    fn start(&self, config: EncodersConfig) -> Encoders {
        Encoders::start(config, |_| {
            let embedder = Watched { watch: self.watch.clone(), model: StubEmbedder::new(32) };
            let reranker = Watched { watch: self.watch.clone(), model: StubReranker };
            Ok((Box::new(embedder), Box::new(reranker)))
        })
        .expect("starts")
    }

    /// Occupies a worker until [`Control::release`].
    async fn hold(&self, encoders: &Encoders) -> tokio::task::JoinHandle<()> {
        let encoders = encoders.clone();
        let task = tokio::spawn(async move {
            encoders.embed("hold", TextRole::Passage, job(Priority::Rerank, None)).await.expect("embeds");
        });
        while self.held.try_recv().is_err() {
            tokio::task::yield_now().await;
        }
        task
    }

    fn release(&self) {
        *self.watch.release.0.lock().expect("not poisoned") = true;
        self.watch.release.1.notify_all();
    }

    fn calls(&self) -> Vec<String> {
        self.watch.calls.lock().expect("not poisoned").clone()
    }

    /// Batches that were run: kind and number of items.
    fn batches(&self) -> Vec<String> {
        self.watch.batches.lock().expect("not poisoned").clone()
    }
}

struct Watched<M> {
    watch: Watch,
    model: M,
}

impl<M> Drop for Watched<M> {
    fn drop(&mut self) {
        self.watch.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

impl Embedder for Watched<StubEmbedder> {
    fn space(&self) -> &EmbeddingSpace {
        self.model.space()
    }
    fn embed(&mut self, text: &str, role: TextRole) -> Result<Embedding, ModelError> {
        self.watch.call(text);
        self.model.embed(text, role)
    }
    fn embed_counted(&mut self, text: &str, role: TextRole) -> Result<(Embedding, TextRead), ModelError> {
        self.watch.call(text);
        self.model.embed_counted(text, role)
    }
    fn embed_batch(&mut self, texts: &[(&str, TextRole)]) -> Vec<Result<(Embedding, TextRead), ModelError>> {
        self.watch.batches.lock().expect("not poisoned").push(format!("embed {}", texts.len()));
        texts.iter().map(|(text, role)| self.embed_counted(text, *role)).collect()
    }
}

impl Reranker for Watched<StubReranker> {
    fn name(&self) -> &str {
        self.model.name()
    }
    fn score(&mut self, query: &str, passage: &str) -> Result<RerankLogit, ModelError> {
        self.watch.call(passage);
        self.model.score(query, passage)
    }
    fn score_counted(
        &mut self,
        query: &str,
        passage: &str,
        passage_tokens: Option<NonZeroUsize>,
    ) -> Result<(RerankLogit, PairRead), ModelError> {
        self.watch.call(passage);
        self.model.score_counted(query, passage, passage_tokens)
    }
    fn score_batch(&mut self, pairs: &[Pair<'_>]) -> Vec<Result<(RerankLogit, PairRead), ModelError>> {
        self.watch.batches.lock().expect("not poisoned").push(format!("score {}", pairs.len()));
        let one = |pair: &Pair<'_>| self.score_counted(pair.query, pair.passage, pair.passage_tokens);
        pairs.iter().map(one).collect()
    }
}

fn job(priority: Priority, deadline: Option<Instant>) -> Job {
    Job { priority, deadline }
}

fn passages(texts: &[&str]) -> Vec<Arc<str>> {
    texts.iter().map(|text| Arc::from(*text)).collect()
}

async fn until_queued(encoders: &Encoders, items: usize) {
    while encoders.status().queued < items {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn results_come_back_in_the_order_of_the_passages() {
    let control = watch();
    let encoders = control.encoders(3, 100);
    let texts = passages(&["nothing shared", "sleep", "how to sleep better", "sleep better"]);
    let query = "how to sleep better";
    let got = encoders.score(query, &texts, job(Priority::Rerank, None)).await;
    let expected: Vec<RerankLogit> =
        texts.iter().map(|text| StubReranker.score(query, text).expect("scores")).collect();
    let got: Vec<RerankLogit> = got.into_iter().map(|logit| logit.expect("scores")).collect();
    assert_eq!(got, expected);
    let distinct: BTreeSet<String> = got.iter().map(|logit| logit.get().to_string()).collect();
    assert_eq!(distinct.len(), 4, "the order can be seen");
    assert_eq!(encoders.reranker_name(), "stub");
    assert_eq!(encoders.space().dim, 32);
}

#[tokio::test]
async fn urgent_work_goes_first() {
    let control = watch();
    let encoders = control.encoders(1, 100);
    let held = control.hold(&encoders).await;
    let mut tasks = Vec::new();
    for (n, (text, priority)) in [
        ("bulk", Priority::Bulk),
        ("ingest", Priority::Ingest),
        ("check", Priority::AnswerCheck),
        ("query", Priority::QueryEmbedding),
        ("rerank", Priority::Rerank),
    ]
    .into_iter()
    .enumerate()
    {
        let encoders_of_task = encoders.clone();
        tasks.push(tokio::spawn(async move {
            encoders_of_task.embed(text, TextRole::Passage, job(priority, None)).await
        }));
        until_queued(&encoders, n + 1).await;
    }
    control.release();
    for task in tasks {
        task.await.expect("no panic").expect("embeds");
    }
    held.await.expect("no panic");
    assert_eq!(control.calls(), ["hold", "rerank", "query", "check", "ingest", "bulk"]);
}

#[tokio::test]
async fn what_nobody_waits_for_is_not_started() {
    let control = watch();
    let encoders = control.encoders(1, 100);
    let held = control.hold(&encoders).await;
    let left = {
        let encoders = encoders.clone();
        tokio::spawn(
            async move { encoders.embed("left", TextRole::Passage, job(Priority::Rerank, None)).await },
        )
    };
    let texts = passages(&["left too", "and this"]);
    let left_too = {
        let encoders = encoders.clone();
        tokio::spawn(async move { encoders.score("query", &texts, job(Priority::Rerank, None)).await })
    };
    until_queued(&encoders, 3).await;
    left.abort();
    left_too.abort();
    assert!(left.await.is_err() && left_too.await.is_err(), "both are cancelled");
    control.release();
    held.await.expect("no panic");
    encoders.embed("stays", TextRole::Passage, job(Priority::Bulk, None)).await.expect("embeds");
    assert_eq!(control.calls(), ["hold", "stays"]);
}

#[tokio::test]
async fn a_caller_has_its_answer_at_the_deadline_and_the_item_is_not_started() {
    let control = watch();
    let encoders = control.encoders(1, 100);
    let held = control.hold(&encoders).await;
    let soon = Instant::now() + Duration::from_millis(20);
    let late = encoders.embed("late", TextRole::Passage, job(Priority::Rerank, Some(soon))).await;
    assert!(matches!(late, Err(SchedulerError::DeadlineExceeded)), "{late:?}");
    let texts = passages(&["late too", "later"]);
    let late = encoders.score("query", &texts, job(Priority::Rerank, Some(soon))).await;
    assert!(late.iter().all(|result| matches!(result, Err(SchedulerError::DeadlineExceeded))), "{late:?}");
    control.release();
    held.await.expect("no panic");
    encoders.embed("good", TextRole::Passage, job(Priority::Bulk, None)).await.expect("embeds");
    assert_eq!(control.calls(), ["hold", "good"]);
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_says_how_full() {
    let control = watch();
    let encoders = control.encoders(1, 4);
    let held = control.hold(&encoders).await;
    let scores = {
        let encoders = encoders.clone();
        let texts = passages(&["a", "b", "c"]);
        tokio::spawn(async move { encoders.score("query", &texts, job(Priority::Rerank, None)).await })
    };
    until_queued(&encoders, 3).await;
    // One place is left: the first passage gets it, the others are refused without waiting.
    let more = {
        let encoders = encoders.clone();
        let texts = passages(&["d", "e", "f"]);
        tokio::spawn(async move { encoders.score("query", &texts, job(Priority::Rerank, None)).await })
    };
    until_queued(&encoders, 4).await;
    let refused = encoders.embed("g", TextRole::Query, job(Priority::QueryEmbedding, None)).await;
    let Err(SchedulerError::Overloaded { queued: 4, limit: 4 }) = refused else { panic!("{refused:?}") };
    control.release();
    held.await.expect("no panic");
    assert!(scores.await.expect("no panic").iter().all(Result::is_ok));
    let more = more.await.expect("no panic");
    assert!(more[0].is_ok() && more[1..].iter().all(|r| matches!(r, Err(SchedulerError::Overloaded { .. }))));
    assert_eq!(control.calls(), ["hold", "a", "d", "b", "c"], "requests take turns");
}

#[tokio::test]
async fn those_who_left_make_room_for_those_who_come() {
    let control = watch();
    let encoders = control.encoders(1, 2);
    let held = control.hold(&encoders).await;
    let left = {
        let encoders = encoders.clone();
        let texts = passages(&["a", "b"]);
        tokio::spawn(async move { encoders.score("query", &texts, job(Priority::Rerank, None)).await })
    };
    until_queued(&encoders, 2).await;
    left.abort();
    assert!(left.await.is_err());
    let comes = {
        let encoders = encoders.clone();
        tokio::spawn(
            async move { encoders.embed("comes", TextRole::Query, job(Priority::Rerank, None)).await },
        )
    };
    while encoders.status().queued != 1 {
        tokio::task::yield_now().await;
    }
    control.release();
    comes.await.expect("no panic").expect("has room");
    held.await.expect("no panic");
}

#[tokio::test]
async fn a_panic_in_the_model_is_one_failed_item() {
    let control = watch();
    let encoders = control.encoders(1, 10);
    let job = job(Priority::Rerank, None);
    let texts = passages(&["one", "panic", "two"]);
    let scores = encoders.score("query", &texts, job).await;
    assert!(scores[0].is_ok() && scores[2].is_ok(), "{scores:?}");
    let Err(SchedulerError::Model(ModelError::Failed { message, .. })) = &scores[1] else {
        panic!("{scores:?}")
    };
    assert!(message.contains("panicked: the model broke"), "{message}");
    assert!(encoders.embed("panic", TextRole::Passage, job).await.is_err());
    encoders.embed("after", TextRole::Passage, job).await.expect("the worker goes on");
}

#[tokio::test]
async fn the_model_refusing_a_text_is_the_error_of_that_text() {
    let encoders = watch().encoders(2, 10);
    let scores = encoders.score("query", &passages(&["fine", " "]), job(Priority::Rerank, None)).await;
    assert!(scores[0].is_ok() && matches!(scores[1], Err(SchedulerError::Model(ModelError::EmptyText))));
    let texts = ["fine".to_owned(), " ".to_owned(), "also".to_owned()];
    let each = encoders.embed_each_blocking(&texts, TextRole::Passage, Priority::Ingest);
    assert!(each[0].is_ok() && each[2].is_ok(), "{each:?}");
    assert!(matches!(each[1], Err(SchedulerError::Model(ModelError::EmptyText))), "{each:?}");
    let all = encoders.embed_blocking(&texts, TextRole::Passage, Priority::Ingest);
    assert!(matches!(all, Err(SchedulerError::Model(ModelError::EmptyText))), "{all:?}");
}

#[tokio::test]
async fn queries_and_pairs_are_computed_once_and_passages_each_time() {
    let control = watch();
    let encoders = control.encoders(2, 10);
    let job = job(Priority::Rerank, None);
    let first = encoders.embed("words", TextRole::Query, job).await.expect("embeds");
    assert_eq!(encoders.embed("words", TextRole::Query, job).await.expect("embeds"), first);
    assert_eq!(control.calls(), ["words"]);
    encoders.embed("words", TextRole::Passage, job).await.expect("embeds");
    encoders.embed("words", TextRole::Passage, job).await.expect("embeds");
    assert_eq!(control.calls().len(), 3);

    let texts = passages(&["alpha", "beta"]);
    encoders.score("query", &texts, job).await;
    encoders.score("query", &texts, job).await;
    assert_eq!(control.calls().len(), 5);
    encoders.score("other query", &texts, job).await;
    assert_eq!(control.calls().len(), 7);
    // What failed is tried again.
    encoders.score("query", &passages(&["panic"]), job).await;
    encoders.score("query", &passages(&["panic"]), job).await;
    assert_eq!(control.calls().len(), 9);
}

#[test]
fn a_batch_larger_than_the_queue_waits_for_room_and_keeps_its_order() {
    let control = watch();
    let encoders = control.encoders(2, 3);
    let texts: Vec<String> = (0..50).map(|n| format!("post number {n}")).collect();
    for priority in [Priority::Bulk, Priority::Ingest, Priority::Rerank] {
        let vectors = encoders.embed_blocking(&texts, TextRole::Passage, priority).expect("embeds");
        let mut model = StubEmbedder::new(32);
        let expected: Vec<Embedding> =
            texts.iter().map(|text| model.embed(text, TextRole::Passage).expect("embeds")).collect();
        assert_eq!(vectors, expected, "{priority:?}");
    }
    assert!(
        encoders.embed_blocking(&[], TextRole::Passage, Priority::Bulk).expect("nothing to do").is_empty()
    );
}

#[tokio::test]
async fn a_bulk_load_never_makes_a_person_wait_for_room() {
    let control = watch();
    let encoders = control.encoders(1, 8);
    let held = control.hold(&encoders).await;
    let bulk = {
        let encoders = encoders.clone();
        let texts: Vec<String> = (0..100).map(|n| format!("bulk {n}")).collect();
        thread::spawn(move || encoders.embed_blocking(&texts, TextRole::Passage, Priority::Bulk))
    };
    until_queued(&encoders, 2).await; // a quarter of eight
    let query = {
        let encoders = encoders.clone();
        tokio::spawn(async move {
            encoders.embed("query", TextRole::Query, job(Priority::QueryEmbedding, None)).await
        })
    };
    until_queued(&encoders, 3).await;
    control.release();
    query.await.expect("no panic").expect("has room");
    held.await.expect("no panic");
    assert_eq!(control.calls()[..2], ["hold", "query"], "and it goes first");
    assert_eq!(bulk.join().expect("no panic").expect("embeds").len(), 100);
}

#[tokio::test]
async fn dropping_the_last_handle_ends_the_threads_and_the_models() {
    let control = watch();
    let encoders = control.encoders(3, 10);
    let clone = encoders.clone();
    drop(encoders);
    clone.embed("still", TextRole::Query, job(Priority::Rerank, None)).await.expect("one handle is left");
    assert_eq!(control.watch.dropped.load(Ordering::SeqCst), 0);
    drop(clone);
    assert_eq!(
        control.watch.dropped.load(Ordering::SeqCst),
        6,
        "three pairs, dropped before `drop` returned"
    );
}

#[tokio::test]
async fn what_comes_while_the_device_is_busy_runs_together() {
    let control = watch();
    let encoders = control.batching(100);
    let held = control.hold(&encoders).await;
    let texts = passages(&["sleep", " ", "how to sleep better"]);
    let scores = {
        let (encoders, texts) = (encoders.clone(), texts.clone());
        tokio::spawn(async move { encoders.score("how to sleep", &texts, job(Priority::Rerank, None)).await })
    };
    until_queued(&encoders, 3).await;
    let bulk = {
        let encoders = encoders.clone();
        let texts: Vec<String> = (0..20).map(|n| format!("bulk {n}")).collect();
        thread::spawn(move || encoders.embed_blocking(&texts, TextRole::Passage, Priority::Bulk))
    };
    until_queued(&encoders, 23).await;
    control.release();
    held.await.expect("no panic");
    let scores = scores.await.expect("no panic");
    assert!(matches!(scores[1], Err(SchedulerError::Model(ModelError::EmptyText))), "{scores:?}");
    for n in [0, 2] {
        let expected = StubReranker.score("how to sleep", &texts[n]).expect("scores");
        assert_eq!(*scores[n].as_ref().expect("scores"), expected, "results keep their places");
    }
    assert_eq!(bulk.join().expect("no panic").expect("embeds").len(), 20);
    assert_eq!(control.batches(), ["embed 1", "score 3", "embed 20"]);
    // Scores and query vectors are remembered as they are without batches.
    encoders.score("how to sleep", &passages(&["sleep"]), job(Priority::Rerank, None)).await;
    assert_eq!(control.batches().len(), 3);
    assert_eq!(encoders.caches()[1].hits, 1);
}

#[tokio::test]
async fn in_a_batch_too_the_gone_the_late_and_the_panicking_cost_nobody_else() {
    let control = watch();
    let encoders = control.batching(100);
    let held = control.hold(&encoders).await;
    let soon = Instant::now() + Duration::from_millis(20);
    let late = encoders.embed("late", TextRole::Passage, job(Priority::Rerank, Some(soon))).await;
    assert!(matches!(late, Err(SchedulerError::DeadlineExceeded)), "{late:?}");
    let scores = {
        let encoders = encoders.clone();
        let texts = passages(&["one", "panic", "two"]);
        tokio::spawn(async move { encoders.score("query", &texts, job(Priority::Rerank, None)).await })
    };
    until_queued(&encoders, 4).await;
    control.release();
    held.await.expect("no panic");
    let scores = scores.await.expect("no panic");
    assert!(scores[0].is_ok() && scores[2].is_ok(), "{scores:?}");
    assert!(matches!(&scores[1], Err(SchedulerError::Model(ModelError::Failed { .. }))), "{scores:?}");
    assert!(!control.calls().contains(&"late".to_owned()), "{:?}", control.calls());
}

#[test]
fn bad_settings_and_models_that_differ_are_refused() {
    let start = |config| {
        Encoders::start(config, |n| Ok((Box::new(StubEmbedder::new(8 * (n + 1))), Box::new(StubReranker))))
    };
    for (workers, queue_items) in [(0, 1), (1, 0)] {
        let config = EncodersConfig { workers, queue_items, ..EncodersConfig::default() };
        assert!(matches!(start(config), Err(SchedulerError::Config(_))));
    }
    let error = start(EncodersConfig { workers: 2, ..EncodersConfig::default() }).expect_err("they differ");
    assert!(error.to_string().contains("different models"), "{error}");
    let batching = Some(BatchPolicy::default());
    let config = EncodersConfig { workers: 2, batching, ..EncodersConfig::default() };
    assert!(matches!(start(config), Err(SchedulerError::Config(message)) if message.contains("one worker")));
    let batching = Some(BatchPolicy { tokens: 100, ..BatchPolicy::default() });
    let config = EncodersConfig { workers: 1, batching, ..EncodersConfig::default() };
    assert!(matches!(start(config), Err(SchedulerError::Config(message)) if message.contains("512 tokens")));
    let failing = Encoders::start(EncodersConfig::default(), |_| Err(ModelError::NotFinite));
    assert!(matches!(failing, Err(SchedulerError::Model(ModelError::NotFinite))));
}

#[tokio::test]
async fn counted_work_tells_what_was_read_and_leaves_the_caches_alone() {
    let config = EncodersConfig { workers: 1, ..EncodersConfig::default() };
    let plain = Encoders::start(config, |_| Ok((Box::new(StubEmbedder::new(32)), Box::new(StubReranker))))
        .expect("starts");
    let bulk = job(Priority::Bulk, None);
    let (vector, read) = plain.embed_counted("how to sleep", TextRole::Passage, bulk).await.expect("embeds");
    assert_eq!((read.tokens, read.dropped), (3, 0));
    assert_eq!(vector, plain.embed("how to sleep", TextRole::Passage, bulk).await.expect("embeds"));
    let query: Arc<str> = "sleep better".into();
    let (_, read) =
        plain.score_counted(&query, "a b c sleep", NonZeroUsize::new(3), bulk).await.expect("scores");
    assert_eq!((read.tokens, read.query_dropped, read.passage_dropped), (5, 0, 1));

    let control = watch();
    let watched = control.encoders(1, 10);
    for _ in 0..2 {
        watched.embed_counted("query", TextRole::Query, bulk).await.expect("embeds");
        watched.score_counted(&query, "passage", None, bulk).await.expect("scores");
    }
    watched.embed("query", TextRole::Query, bulk).await.expect("embeds");
    assert!(watched.score(&query, &passages(&["passage"]), bulk).await[0].is_ok());
    assert_eq!(control.calls().len(), 6, "each was computed");
}

#[tokio::test]
async fn an_embedder_beside_the_first_gives_vectors_of_its_own_space_on_the_same_threads() {
    for config in [
        EncodersConfig { workers: 2, ..EncodersConfig::default() },
        EncodersConfig { workers: 1, batching: Some(BatchPolicy::default()), ..EncodersConfig::default() },
    ] {
        let first = Encoders::start(config, |_| {
            Ok((
                Box::new(StubEmbedder::new(8)) as Box<dyn Embedder>,
                Box::new(StubReranker) as Box<dyn Reranker>,
            ))
        })
        .expect("starts");
        let second = first.with_embedder(|_| Ok(Box::new(StubEmbedder::new(16)))).expect("loads");
        assert_ne!(first.space(), second.space());
        assert_eq!(first.status().workers, second.status().workers);
        let job = job(Priority::QueryEmbedding, None);
        for _ in 0..2 {
            let vector = first.embed("sleep", TextRole::Query, job).await.expect("embeds");
            assert_eq!(vector, StubEmbedder::new(8).embed("sleep", TextRole::Query).expect("embeds"));
            let vector = second.embed("sleep", TextRole::Query, job).await.expect("embeds");
            assert_eq!(vector.dim(), 16, "a remembered vector is of the space that was asked for");
        }
        let texts: Vec<String> = (0..20).map(|n| format!("text {n}")).collect();
        let mine = second.clone();
        let bulk = thread::spawn(move || mine.embed_blocking(&texts, TextRole::Passage, Priority::Bulk));
        assert!(first.embed("other", TextRole::Query, job).await.expect("embeds").dim() == 8);
        assert!(bulk.join().expect("no panic").expect("embeds").iter().all(|vector| vector.dim() == 16));
        drop(first);
        assert!(second.embed("the threads stay", TextRole::Query, job).await.is_ok());
        let differ = second.with_embedder(|n| Ok(Box::new(StubEmbedder::new(8 * (n + 1)))));
        assert_eq!(differ.is_err(), config.workers == 2);
    }
}
