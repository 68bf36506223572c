//! What several benches need: the demo with its caches off, and sums over samples.

pub mod scale;

use bowerbird::cli::PostCount;
use bowerbird::config::Config;
use bowerbird::demo;
use bowerbird::progress::Bars;
use bowerbird::stack::{Stack, cache_dir, model_store};
use bytesize::ByteSize;

/// Posts of the benched demo.
pub const POSTS: usize = 10_000;

/// The demo of [`POSTS`] posts with real models and no caches, so that every query is encoded and every pair scored.
///
/// The index is kept in the user's cache between runs.
///
/// # Panics
/// When models or posts cannot be loaded; the message says what to do.
pub async fn demo_without_caches(workers: usize) -> Stack {
    demo_with(workers, |_| {}).await
}

/// The same with other settings.
///
/// # Panics
/// As [`demo_without_caches`].
pub async fn demo_with(workers: usize, change: impl FnOnce(&mut Config)) -> Stack {
    let mut config = bowerbird_tests::test_config();
    config.models.query_cache = ByteSize(0);
    config.models.score_cache = ByteSize(0);
    config.models.workers = workers;
    config.search.rerank_budget = std::time::Duration::from_mins(1);
    change(&mut config);
    let dir = cache_dir().expect("a cache directory").join("bench-data").join(format!("demo-{POSTS}"));
    std::fs::create_dir_all(&dir).expect("a directory for bench data");
    demo::prepare(&config, &dir, PostCount::First(POSTS)).await.unwrap_or_else(|error| panic!("{error:#}"))
}

/// The texts of all demo posts, in the order of the file; fetched when they are not there.
///
/// # Panics
/// When they cannot be fetched; the message says what to do.
pub fn demo_texts() -> Vec<String> {
    let load = || -> anyhow::Result<Vec<String>> {
        let store = model_store(&bowerbird_tests::test_config())?;
        let entry = bowerbird_catalog::Catalog::embedded()?.entry("demo-posts")?.clone();
        let archive = store.ensure(&entry, &Bars::default())?.join("healthtweets.zip");
        Ok(demo::corpus::read(&archive)?.into_iter().map(|post| post.text).collect())
    };
    load().unwrap_or_else(|error| panic!("{error:#}"))
}

/// The number after `name` among the arguments of the bench.
///
/// # Panics
/// When it is not a number.
pub fn argument(name: &str, default: usize) -> usize {
    let mut arguments = std::env::args().skip_while(|argument| argument != name).skip(1);
    arguments.next().map_or(default, |value| {
        value
            .replace('_', "")
            .parse()
            .unwrap_or_else(|_| panic!("{name} is {value}, expected a whole number"))
    })
}

/// Questions and searches that people might put to the demo posts.
pub const QUERIES: [&str; 40] = [
    "can't nod off at night",
    "my head is throbbing",
    "shoes for jogging",
    "kids not getting their shots",
    "office job aching spine",
    "gadgets that count your steps",
    "are vaping devices safe for teenagers",
    "new york large soda ban",
    "hospital nurse infected in Texas",
    "mosquito disease caribbean",
    "is coffee good or bad for you",
    "does aspirin prevent cancer",
    "is barefoot running better",
    "foods that lower blood pressure",
    "how much water should I drink",
    "symptoms of a heart attack in women",
    "healthy breakfast ideas",
    "yoga for beginners",
    "flu shot side effects",
    "insurance marketplace enrollment deadline",
    "measles outbreak disneyland",
    "quit smoking tips",
    "stress at work",
    "sunscreen safe for children",
    "low carb or low fat diet",
    "peanut allergy treatment",
    "strength training for older adults",
    "depression after childbirth",
    "antibiotic resistance superbugs",
    "autism causes",
    "concussion in football players",
    "gluten free diet benefits",
    "vitamin D supplements",
    "hospital prices",
    "nursing home care",
    "teen pregnancy rate",
    "hepatitis C drug cost",
    "medical marijuana",
    "air pollution asthma",
    "HPV vaccine girls",
];
