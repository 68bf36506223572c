//! The embedded generator with the catalog's model.

use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use bowerbird_llm::{EmbeddedConfig, EmbeddedGenerator, LlmError, ensure_q8_0};
use bowerbird_models_api::{
    Constraint, Finish, GenerateRequest, GenerationStream, Generator, Message, ModelError, Piece, Role, Usage,
};

#[path = "../src/real_model.rs"]
mod real_model;

fn generator() -> Option<&'static EmbeddedGenerator> {
    static GENERATOR: OnceLock<Option<EmbeddedGenerator>> = OnceLock::new();
    GENERATOR
        .get_or_init(|| {
            let path = real_model::path()?;
            let config =
                EmbeddedConfig { name: "smollm2".to_owned(), threads: 2, ..EmbeddedConfig::default() };
            Some(EmbeddedGenerator::open(&path, config).expect("opens"))
        })
        .as_ref()
}

fn request(text: &str, max_tokens: usize) -> GenerateRequest {
    GenerateRequest {
        messages: vec![
            Message { role: Role::System, content: "Answer briefly.".to_owned() },
            Message { role: Role::User, content: text.to_owned() },
        ],
        max_tokens,
        stop: Vec::new(),
        temperature: 0.0,
        seed: 1,
        deadline: Instant::now() + Duration::from_mins(10),
        constraint: None,
    }
}

async fn collect(mut stream: GenerationStream) -> Result<(String, Usage), ModelError> {
    let mut text = String::new();
    while let Some(piece) = stream.recv().await {
        match piece? {
            Piece::Text(more) => text.push_str(&more),
            Piece::Done(usage) => {
                assert!(stream.recv().await.is_none(), "nothing comes after the end");
                return Ok((text, usage));
            }
        }
    }
    panic!("the stream ended without an end; so far {text:?}");
}

#[tokio::test]
async fn greedy_generation_repeats_itself() {
    let Some(generator) = generator() else { return };
    let question = request("Write one sentence about the sea.", 12);
    let (first, usage) = collect(generator.generate(question.clone())).await.expect("generates");
    assert!(first.contains("sea"), "{first:?}");
    assert!((1..=12).contains(&usage.generated_tokens) && usage.prompt_tokens > 15, "{usage:?}");
    collect(generator.generate(request("Name a fruit.", 4))).await.expect("generates");
    let (second, again) = collect(generator.generate(question)).await.expect("generates");
    assert_eq!((first, usage), (second, again));
}

#[tokio::test]
async fn sampling_follows_the_seed() {
    let Some(generator) = generator() else { return };
    let with_seed = |seed| GenerateRequest { temperature: 1.5, seed, ..request("Write a poem.", 12) };
    let (first, _) = collect(generator.generate(with_seed(1))).await.expect("generates");
    let (same, _) = collect(generator.generate(with_seed(1))).await.expect("generates");
    let (other, _) = collect(generator.generate(with_seed(2))).await.expect("generates");
    assert_eq!(first, same);
    assert_ne!(first, other);
}

#[tokio::test]
async fn length_and_stop_strings_end_a_generation() {
    let Some(generator) = generator() else { return };
    let counting = request("Write a long story about the sea.", 10);
    let (whole, usage) = collect(generator.generate(counting.clone())).await.expect("generates");
    assert_eq!((usage.generated_tokens, usage.finish), (10, Finish::Length), "{whole:?}");
    let stop = whole.chars().skip(8).take(5).collect::<String>();
    let expected = whole.split(&stop).next().expect("a beginning").to_owned();
    let stopped = GenerateRequest { stop: vec!["never said".to_owned(), stop], ..counting };
    let (text, usage) = collect(generator.generate(stopped)).await.expect("generates");
    assert_eq!((text, usage.finish), (expected, Finish::Stop));
    let (text, usage) = collect(generator.generate(request("Hello", 0))).await.expect("generates");
    assert_eq!((text.as_str(), usage.generated_tokens, usage.finish), ("", 0, Finish::Length));
}

#[tokio::test]
async fn a_deadline_ends_a_generation() {
    let Some(generator) = generator() else { return };
    let past = GenerateRequest { deadline: Instant::now(), ..request("Hello", 5) };
    let (text, usage) = collect(generator.generate(past)).await.expect("no error");
    assert_eq!((text.as_str(), usage.generated_tokens, usage.finish), ("", 0, Finish::Deadline));
    let mut soon = request("Write a long story about the sea.", 1800);
    soon.deadline = Instant::now() + Duration::from_millis(500);
    let (_, usage) = collect(generator.generate(soon)).await.expect("no error");
    assert_eq!(usage.finish, Finish::Deadline);
    assert!(usage.generated_tokens < 1800);
}

#[tokio::test]
async fn dropping_the_stream_stops_within_one_token() {
    let Some(path) = real_model::path() else { return };
    // Its own instance: the counters are of this test only.
    let generator = EmbeddedGenerator::open(&path, EmbeddedConfig::default()).expect("opens");
    let mut stream = generator.generate(request("Write a long story about the sea.", 1500));
    for _ in 0..3 {
        stream.recv().await.expect("a piece").expect("no error");
    }
    drop(stream);
    let at_drop = generator.stats().generated_tokens;
    let (_, usage) = collect(generator.generate(request("Name a fruit.", 2))).await.expect("generates");
    let after = generator.stats().generated_tokens - at_drop - usage.generated_tokens as u64;
    assert!(after <= 1, "{after} tokens were generated for nobody");
}

#[tokio::test]
async fn a_message_cannot_end_its_turn() {
    let Some(generator) = generator() else { return };
    let tokens = |text: String| async move {
        collect(generator.generate(request(&text, 1))).await.expect("generates").1.prompt_tokens
    };
    let plain = tokens("hello ".to_owned()).await;
    for control in ["<|im_end|>", "<|im_start|>", "<|endoftext|>"] {
        let found = tokens(format!("hello {control}")).await;
        assert!(found > plain + 2, "{control} took {} tokens, a control token would be one", found - plain);
    }
}

#[tokio::test]
async fn generations_wait_for_each_other() {
    let Some(generator) = generator() else { return };
    let one = generator.generate(request("Name a colour.", 5));
    let two = generator.generate(request("Name an animal.", 5));
    let (two, one) = tokio::join!(collect(two), collect(one));
    assert!(!one.expect("generates").0.is_empty() && !two.expect("generates").0.is_empty());
}

#[tokio::test]
async fn a_shared_beginning_is_read_once_and_changes_nothing() {
    let Some(path) = real_model::path() else { return };
    let open = || EmbeddedGenerator::open(&path, EmbeddedConfig::default()).expect("opens");
    let posts = "Post 1: The bridge opens on Monday. Post 2: Toll is two euros. ".repeat(3);
    let question = |end: &str| request(&format!("{posts}{end}"), 6);
    let (warm, cold) = (open(), open());
    collect(warm.generate(question("When does it open?"))).await.expect("generates");
    let before = warm.stats();
    let second = question("What does it cost?");
    let found = collect(warm.generate(second.clone())).await.expect("generates");
    let reused = warm.stats().prompt_tokens_reused - before.prompt_tokens_reused;
    assert!(reused > 60, "{reused} tokens reused");
    assert_eq!(
        reused + warm.stats().prompt_tokens_read - before.prompt_tokens_read,
        found.1.prompt_tokens as u64
    );
    assert_eq!(found, collect(cold.generate(second)).await.expect("generates"));
}

#[tokio::test]
async fn what_does_not_fit_is_refused() {
    let Some(path) = real_model::path() else { return };
    let config = EmbeddedConfig { context_tokens: 64, queue: 1, ..EmbeddedConfig::default() };
    let generator = EmbeddedGenerator::open(&path, config).expect("opens");
    let error = collect(generator.generate(request(&"word ".repeat(100), 5))).await.expect_err("too long");
    assert!(error.to_string().contains("context window 64"), "{error}");
    let error =
        collect(generator.generate(request(&"word ".repeat(100_000), 5))).await.expect_err("too long");
    assert!(matches!(error, ModelError::TextTooLong { found: 500_015, .. }), "{error}");
    let mut blank = request("  ", 5);
    blank.messages.remove(0);
    let error = collect(generator.generate(blank)).await.expect_err("blank");
    assert!(matches!(error, ModelError::EmptyText), "{error}");
    let hot = GenerateRequest { temperature: f32::NAN, ..request("hi", 5) };
    assert!(collect(generator.generate(hot)).await.is_err());
    // The window ends a generation that fits at first.
    let (_, usage) = collect(generator.generate(request("Write a long story about the sea.", 1000)))
        .await
        .expect("generates");
    assert_eq!(usage.finish, Finish::Length);
    assert_eq!(usage.prompt_tokens + usage.generated_tokens, 65, "the last token need not be read");
    // One runs, one waits, the others are refused at once.
    let streams: Vec<_> =
        (0..4).map(|_| generator.generate(request("Write a long story about the sea.", 20))).collect();
    let mut refused = 0;
    for stream in streams {
        match collect(stream).await {
            Ok(_) => {}
            Err(error) => {
                assert!(matches!(error, ModelError::Overloaded { waiting: 1, .. }), "{error}");
                refused += 1;
            }
        }
    }
    assert!((2..=3).contains(&refused), "{refused} of 4 refused");
}

#[tokio::test]
async fn the_converted_file_says_the_same() {
    let Some(path) = real_model::path() else { return };
    let Some(generator) = generator() else { return };
    let cache = tempfile::tempdir().expect("a directory");
    let started = Instant::now();
    let eight = ensure_q8_0(&path, cache.path()).expect("converts");
    report(&format!(
        "requantised in {:.2} s to {} bytes",
        started.elapsed().as_secs_f64(),
        std::fs::metadata(&eight).expect("there").len()
    ));
    let converted = EmbeddedGenerator::open(&eight, EmbeddedConfig::default()).expect("opens");
    // Scales are rounded to half precision in the file, so later words may differ.
    let question = request("Write one sentence about the sea.", 8);
    let expected = collect(generator.generate(question.clone())).await.expect("generates");
    assert_eq!(collect(converted.generate(question)).await.expect("generates"), expected);
}

#[test]
fn damaged_files_are_refused_by_name() {
    let Some(path) = real_model::path() else { return };
    let bytes = std::fs::read(&path).expect("reads");
    let directory = tempfile::tempdir().expect("a directory");
    let check = |name: &str, bytes: &[u8], expected: &str| {
        let file = directory.path().join(name);
        std::fs::write(&file, bytes).expect("written");
        let error = open_error(&file);
        let text = error.to_string();
        assert!(text.contains(name) && text.contains(expected), "{text}");
    };
    check("cut.gguf", &bytes[..bytes.len() / 2], "cut short");
    check("header.gguf", &bytes[..10_000], "cut short");
    check("empty.gguf", b"", "0 bytes");
    check("page.gguf", b"<html>not found</html>", "expected \"GGUF\"");
    let renamed = replaced(&bytes, b"blk.7.attn_q.weight", b"blk.7.attn_z.weight");
    check("renamed.gguf", &renamed, "blk.7.attn_q.weight");
    let other = replaced(&bytes, b"smollm", b"gpt-4o");
    check("other.gguf", &other, "pre-tokenizer gpt-4o");
    assert!(matches!(open_error(Path::new("/nonexistent.gguf")), LlmError::Read { .. }));
}

fn open_error(path: &Path) -> LlmError {
    EmbeddedGenerator::open(path, EmbeddedConfig::default()).err().expect("refused")
}

/// `bytes` with the occurrence of `from` that is a whole GGUF string replaced by `to`.
fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let needle = [&(from.len() as u64).to_le_bytes(), from].concat();
    let at = bytes.windows(needle.len()).position(|window| window == needle).expect("there");
    let mut bytes = bytes.to_vec();
    bytes[at + 8..at + 8 + to.len()].copy_from_slice(to);
    bytes
}

/// `cargo test --release -p bowerbird-llm --test embedded -- --ignored --nocapture speed`
#[tokio::test]
#[ignore = "a measurement"]
async fn speed() {
    let Some(path) = real_model::path() else { return };
    let cpu = || {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let fields: Vec<f64> =
            stat.rsplit(')').next().unwrap_or_default().split(' ').filter_map(|f| f.parse().ok()).collect();
        // utime and stime, in hundredths of a second; the state letter before them is no number.
        fields.get(10).zip(fields.get(11)).map_or(f64::NAN, |(user, system)| (user + system) / 100.0)
    };
    for threads in [1, 2] {
        let started = Instant::now();
        let generator =
            EmbeddedGenerator::open(&path, EmbeddedConfig { threads, ..EmbeddedConfig::default() })
                .expect("opens");
        report(&format!(
            "{threads} thread(s), {}: opened in {:.2} s",
            generator.kernel(),
            started.elapsed().as_secs_f64()
        ));
        for round in 0..3 {
            let text = format!("{round} The bridge across the river opens on Monday and the toll is low. ")
                .repeat(14);
            for (what, max_tokens) in [("prompt", 1), ("decode", 97)] {
                let (wall, busy) = (Instant::now(), cpu());
                let (_, usage) =
                    collect(generator.generate(request(&text, max_tokens))).await.expect("generates");
                let tokens = if what == "prompt" { usage.prompt_tokens } else { usage.generated_tokens };
                let (wall, busy) = (wall.elapsed().as_secs_f64(), cpu() - busy);
                report(&format!(
                    "{threads} thread(s), {what} of {tokens}: {:.1} tokens/s of wall time, {:.1} tokens/s of CPU time",
                    tokens as f64 / wall,
                    tokens as f64 / busy
                ));
            }
        }
    }
}

#[expect(clippy::print_stderr, reason = "figures for whoever runs a measurement")]
fn report(line: &str) {
    eprintln!("{line}");
}

/// Posts to restate, of every kind that is hard to keep whole: numbers, names, tags, apostrophes, accents.
const POSTS: [&str; 20] = [
    "Daily Coffee May Lower Your Skin Cancer Risk",
    "More than 4,000 people have died from the Ebola outbreak in West Africa",
    "This year's flu shot is only 23% effective, CDC says",
    "Dallas nurse Nina Pham is now free of the virus, officials say",
    "Soda tax raised $1.5M in Berkeley",
    "Yoga eases chronic #BackPain better than usual care",
    "Don't sit all day: standing desks burn 50 more calories an hour",
    "H1N1 hits 3 counties",
    "Barefoot running is not better for your knees",
    "Caf\u{e9} au lait has 110 calories",
    "Measles outbreak linked to Disneyland grows to 94 cases",
    "Teens who vape are more likely to smoke, a study of 2,300 students found",
    "Gluten-free diets do nothing for most people",
    "FDA approves the first pill for peanut allergy",
    "Vitamin D does not prevent colds",
    "Hospital prices vary from $1,200 to $12,000 for the same test",
    "Air pollution raises the risk of asthma in children",
    "Quit smoking before 40 and gain 9 years",
    "Hepatitis C drug costs $84,000",
    "Women's heart attacks often begin without chest pain",
];
const FUNCTION_WORDS: &str =
    "a an the of to in on for with by at from and or but is are was were be it that this The A It";

fn restating(post: &str, constrained: bool) -> GenerateRequest {
    let words = post.split_whitespace().chain(FUNCTION_WORDS.split_whitespace());
    let words = words.map(|w| w.trim_matches([',', ':']).to_owned()).collect();
    GenerateRequest {
        messages: vec![
            Message { role: Role::System, content: "Restate the post in one plain sentence.".to_owned() },
            Message { role: Role::User, content: format!("Post: \"{post}\"") },
        ],
        constraint: constrained.then(|| Constraint { words, marks: ".,;:!?".to_owned() }),
        ..request("", 32)
    }
}

#[tokio::test]
async fn constrained_generations_hold_allowed_words_only() {
    let Some(generator) = generator() else { return };
    for (seed, post) in (0..).zip(POSTS) {
        // Half of them greedily, half drawn.
        let temperature = if seed % 2 == 0 { 0.0 } else { 1.2 };
        let asked = GenerateRequest { temperature, seed, ..restating(post, true) };
        let allowed = asked.constraint.clone().expect("constrained").words;
        let (text, usage) = collect(generator.generate(asked)).await.expect("generates");
        let mut words: Vec<&str> = text.split(' ').collect();
        if usage.finish == Finish::Length {
            words.pop(); // may have been cut
        }
        assert!(!words.is_empty(), "{post:?}: {text:?}");
        for word in words {
            let bare = word.strip_suffix(['.', ',', ';', ':', '!', '?']).unwrap_or(word);
            assert!(
                allowed.iter().any(|a| a == word || a == bare),
                "{word:?} of {text:?} is not in {post:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_constraint_that_allows_nothing_is_refused() {
    let Some(generator) = generator() else { return };
    let none = GenerateRequest { constraint: Some(Constraint::default()), ..request("Hello", 5) };
    let error = collect(generator.generate(none)).await.expect_err("no words");
    assert!(error.to_string().contains("0 words"), "{error}");
}

/// `cargo test --workspace --test embedded -- --ignored --nocapture what_a_constraint_costs`
#[tokio::test]
#[ignore = "a measurement"]
#[expect(clippy::print_stdout, reason = "a measurement is printed")]
async fn what_a_constraint_costs() {
    let Some(generator) = generator() else { return };
    collect(generator.generate(restating(POSTS[0], false))).await.expect("generates");
    for round in 0..3 {
        for constrained in [false, true] {
            let (mut tokens, mut seconds) = (0, 0.0);
            for post in POSTS {
                // Without its prompt: the first token is waited for.
                let mut stream = generator.generate(restating(post, constrained));
                let mut begun = None;
                let mut pieces = 0;
                while let Some(piece) = stream.recv().await {
                    if let Piece::Done(_) = piece.expect("generates") {
                        break;
                    }
                    pieces += 1;
                    begun.get_or_insert_with(Instant::now);
                }
                tokens += pieces - 1;
                seconds += begun.expect("said something").elapsed().as_secs_f64();
            }
            println!(
                "round {round}, constrained {constrained}: {:.1} tokens/s ({tokens})",
                f64::from(tokens) / seconds
            );
        }
    }
}
