//! Suggestions and corrections over a live generation, and who may know of a past query.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bowerbird_live::{Live, LiveConfig, VectorSource};
use bowerbird_posts::{Op, Post, PostId};
use bowerbird_search::SearchError;
use bowerbird_search::suggest::{
    Correction, MAX_SUGGESTIONS, MAX_TYPED_BYTES, QueryLog, QueryLogConfig, Suggester, SuggestionKind,
    correct,
};
use proptest::prelude::*;
use tempfile::TempDir;

const TODAY: u32 = 20_000;

struct Stub;

impl VectorSource for Stub {
    fn space(&self) -> String {
        "stub/2".into()
    }

    fn dim(&self) -> usize {
        2
    }

    fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, Box<dyn Error + Send + Sync>> {
        Ok(vec![vec![1.0, 0.0]; texts.len()])
    }
}

fn open(dir: &Path) -> Live {
    let config = LiveConfig { lexical_interval: Duration::from_millis(5), ..LiveConfig::default() };
    Live::open(dir, config, Arc::new(Stub)).expect("opens")
}

fn write(live: &Live, posts: &[(&str, &str)]) {
    let op = |(id, text): &(&str, &str)| {
        let at = "2026-01-02T03:04:05Z".parse().expect("a time");
        let post = Post::new(PostId::new(*id).expect("an id"), *text, "Ann", at);
        Op::Upsert(Box::new(post.validated().expect("valid")))
    };
    live.write_blocking(posts.iter().map(op).collect()).expect("written");
    live.flush().expect("searchable");
}

fn delete(live: &Live, id: &str) {
    live.write_blocking(vec![Op::Delete(PostId::new(id).expect("an id"))]).expect("deleted");
}

/// A live generation and a suggester over it.
struct Fixture {
    live: Live,
    suggester: Suggester,
    _dir: TempDir,
}

fn fixture(posts: &[(&str, &str)]) -> Fixture {
    let dir = tempfile::tempdir().expect("a directory");
    let live = open(dir.path());
    write(&live, posts);
    let log = QueryLog::in_memory(QueryLogConfig::default()).expect("a log");
    let suggester = Suggester::new(live.clone(), log).expect("a suggester");
    Fixture { live, suggester, _dir: dir }
}

impl Fixture {
    async fn texts(&self, typed: &str) -> Vec<String> {
        let found = self.suggester.suggest(typed, 10, TODAY).await.expect(typed);
        found.into_iter().map(|suggestion| suggestion.text).collect()
    }

    fn correct(&self, query: &str) -> Option<Correction> {
        let snapshot = self.live.snapshot();
        correct(&snapshot, query, None).expect(query)
    }

    fn corrected(&self, query: &str) -> Option<String> {
        self.correct(query).map(|correction| correction.text)
    }

    /// `people` different ones ask `query`.
    fn ask(&self, query: &str, people: usize) {
        for person in 0..people {
            self.suggester.asked(query, &format!("person {person}"), TODAY);
        }
    }
}

const HEALTH: [(&str, &str); 12] = [
    ("1", "The nasal spray flu vaccine works for kids"),
    ("2", "Nasal spray against flu is back"),
    ("3", "Spare time is good for your heart @CDC"),
    ("4", "Spare a thought for nurses @CDC"),
    ("5", "Spare parts for sleep machines @CDCgov"),
    ("6", "Un café à mon école #Santé"),
    ("7", "Sleeping well needs a dark room #SleepWell"),
    ("8", "Sleep tips for shift workers #Sleep #sleeptips"),
    ("9", "Sleeps like a baby #sleep"),
    ("10", "大事な睡眠の話"),
    ("11", "Vaccines save lives, vaccine news"),
    ("12", "Flu vaccine for seniors, the best vaccine"),
];

#[tokio::test]
async fn the_last_word_is_completed_by_what_stands_with_the_words_before() {
    let fixture = fixture(&HEALTH);
    // Alone, the more frequent word comes first; after `nasal`, only what stands with it is left.
    assert_eq!(fixture.texts("spa").await, ["spare"]);
    assert_eq!(fixture.texts("spr").await, ["spray"]);
    assert_eq!(fixture.texts("nasal sp").await, ["nasal spray"]);
    assert_eq!(fixture.texts("Nasal SP").await, ["Nasal spray"]);
    assert_eq!(fixture.texts("flu -nasal va").await, ["flu -nasal vaccine"]);
    assert_eq!(fixture.texts("lang:fr flu va").await, Vec::<String>::new(), "no such post in French");
    assert_eq!(fixture.texts("\"nasal sp").await, ["\"nasal spray"]);
    // Inflections that find the same posts are one suggestion.
    assert_eq!(fixture.texts("vacc").await, ["vaccine"]);
    // Stop words are no suggestion, and a finished word is no completion of itself.
    assert_eq!(fixture.texts("th").await, ["thought"]);
    assert_eq!(fixture.texts("spray").await, Vec::<String>::new());
    assert_eq!(fixture.texts("zzz").await, Vec::<String>::new());
    assert_eq!(fixture.texts("").await, Vec::<String>::new());
    assert_eq!(fixture.texts("nasal ").await, Vec::<String>::new());
    // Words before that no post holds do not silence the list.
    assert_eq!(fixture.texts("qwertz nasal sp").await, ["qwertz nasal spray"]);
}

#[tokio::test]
async fn accents_case_and_scripts_are_no_hindrance() {
    let fixture = fixture(&HEALTH);
    assert_eq!(fixture.texts("caf").await, ["café"]);
    assert_eq!(fixture.texts("CAFÉ eco").await, ["CAFÉ école"]);
    assert_eq!(fixture.texts("睡").await, ["睡眠"]);
    assert_eq!(fixture.texts("大事な睡").await, ["大事な睡眠"]);
    assert_eq!(fixture.texts("話睡").await, Vec::<String>::new(), "no post has this run");
    assert_eq!(fixture.texts("sleep 😀").await, Vec::<String>::new());
    let found = fixture.suggester.suggest("CAF", 1, TODAY).await.expect("found");
    assert_eq!((found[0].matched, found[0].posts, found[0].kind), (3, 1, SuggestionKind::Word));
}

#[tokio::test]
async fn a_sigil_asks_for_names_only() {
    let fixture = fixture(&HEALTH);
    fixture.ask("#sleep tips", 5);
    assert_eq!(fixture.texts("#sl").await, ["#sleep", "#sleeptips", "#sleepwell"]);
    assert_eq!(fixture.texts("tips #SL").await, ["tips #sleep", "tips #sleeptips"]);
    assert_eq!(fixture.texts("#").await, ["#sleep", "#santé", "#sleeptips", "#sleepwell"]);
    assert_eq!(fixture.texts("@c").await, ["@cdc", "@cdcgov"]);
    assert_eq!(fixture.texts("spare @").await, ["spare @cdc", "spare @cdcgov"]);
    assert_eq!(fixture.texts("@CDCG").await, ["@cdcgov"]);
    fixture.suggester.warm().expect("tables");
    assert_eq!(fixture.texts("#sante").await, ["#santé"]);
    let found = fixture.suggester.suggest("#sl", 1, TODAY).await.expect("found");
    assert_eq!((found[0].matched, found[0].posts, found[0].kind), (3, 2, SuggestionKind::Tag));
}

#[tokio::test]
async fn what_only_deleted_posts_held_is_never_shown() {
    let fixture = fixture(&HEALTH);
    fixture.suggester.warm().expect("tables");
    fixture.ask("nasal spray", 5);
    assert_eq!(fixture.texts("nas").await, ["nasal spray", "nasal"]);
    delete(&fixture.live, "1");
    assert_eq!(fixture.texts("nas").await, ["nasal spray", "nasal"]);
    delete(&fixture.live, "2");
    // At once, not only when the lexical index has committed.
    assert_eq!(fixture.texts("nas").await, Vec::<String>::new());
    assert_eq!(fixture.texts("nasal sp").await, ["nasal spare"], "a word before that is gone is no context");
    assert_eq!(fixture.corrected("nasla"), None);
    delete(&fixture.live, "5");
    assert_eq!(fixture.texts("@c").await, ["@cdc"]);
    delete(&fixture.live, "6");
    assert_eq!(fixture.texts("#sant").await, Vec::<String>::new());
    fixture.live.flush().expect("searchable");
    assert_eq!(fixture.texts("nas").await, Vec::<String>::new());
}

#[tokio::test]
async fn past_queries_come_first_and_only_when_enough_people_asked_them() {
    let fixture = fixture(&HEALTH);
    fixture.ask("Sleep  Tips", 4);
    for _ in 0..100 {
        fixture.suggester.asked("sleep like a baby", "one person", TODAY);
    }
    fixture.ask("sleep from:ann", 9);
    let words = ["sleeping", "sleeptips", "sleepwell"];
    assert_eq!(fixture.texts("sleep").await, words, "no query is proven");
    fixture.ask("sleep tips", 5);
    assert_eq!(fixture.texts("sle").await, ["sleep tips", "sleep", "sleeptips", "sleepwell"]);
    assert_eq!(fixture.texts("sleep t").await, ["sleep tips"], "once, though it is a completion too");
    assert_eq!(fixture.texts("sleep ").await, ["sleep tips"]);
    let found = fixture.suggester.suggest("SLE", 2, TODAY).await.expect("found");
    assert_eq!((found[0].kind, found[0].matched, found[0].posts), (SuggestionKind::Query, 3, 1));
    assert!(fixture.suggester.log().forget("Sleep tips").expect("forgotten"));
    assert!(!fixture.suggester.log().forget("sleep tips").expect("forgotten"));
    assert_eq!(fixture.texts("sle").await, ["sleep", "sleeptips", "sleepwell"]);
}

#[tokio::test]
async fn long_and_many_are_refused_by_name() {
    let fixture = fixture(&HEALTH);
    for limit in [0, MAX_SUGGESTIONS + 1] {
        let refused = fixture.suggester.suggest("a", limit, TODAY).await;
        assert!(matches!(refused, Err(SearchError::Limit { found, .. }) if found == limit));
    }
    let long = "a".repeat(MAX_TYPED_BYTES + 1);
    let refused = fixture.suggester.suggest(&long, 1, TODAY).await;
    assert!(matches!(refused, Err(SearchError::QueryTooLong { limit: MAX_TYPED_BYTES, .. })));
}

/// Many words under one prefix: the tables give what a walk over all of them would.
#[tokio::test]
async fn a_short_prefix_of_many_words_finds_the_most_frequent() {
    let words: Vec<String> = (0..3000).map(|n| format!("qa{n:04}x")).collect();
    let mut posts: Vec<(String, String)> =
        words.chunks(10).enumerate().map(|(at, words)| (format!("p{at}"), words.join(" "))).collect();
    // The later in the dictionary, the more posts hold it.
    for (count, word) in (1..).zip(&words[2990..]) {
        posts.extend((0..count).map(|n| (format!("{word}-{n}"), format!("{word} again"))));
    }
    let posts: Vec<(&str, &str)> = posts.iter().map(|(id, text)| (id.as_str(), text.as_str())).collect();
    let fixture = fixture(&posts);
    fixture.suggester.warm().expect("tables");
    for prefix in ["q", "qa", "qa2"] {
        let found = fixture.suggester.suggest(prefix, 3, TODAY).await.expect("found");
        let found: Vec<(&str, u64)> = found.iter().map(|s| (s.text.as_str(), s.posts)).collect();
        assert_eq!(found, [("qa2999x", 11), ("qa2998x", 10), ("qa2997x", 9)], "{prefix}");
    }
    assert_eq!(fixture.texts("qa0042").await, ["qa0042x"]);
}

fn corpus() -> Vec<(String, String)> {
    let mut posts = Vec::new();
    let mut add = |count: usize, text: &str| {
        for _ in 0..count {
            posts.push((format!("c{}", posts.len()), text.to_owned()));
        }
    };
    add(8, "nasal spray flu vaccine");
    add(20, "spare parts and spark plugs");
    add(160, "melatonin helps people sleep");
    add(6, "un café crème au soleil");
    add(5, "running shoes for jogging");
    add(1, "vaccinee is what somebody wrote");
    posts
}

#[tokio::test]
async fn a_mistyped_word_becomes_what_stands_with_the_rest() {
    let posts = corpus();
    let posts: Vec<(&str, &str)> = posts.iter().map(|(id, text)| (id.as_str(), text.as_str())).collect();
    let fixture = fixture(&posts);
    let changed = fixture.correct("flu vaccien").expect("corrected").changed;
    assert_eq!((changed[0].from.as_str(), changed[0].to.as_str()), ("vaccien", "vaccine"));
    for (query, expected) in [
        ("flu vaccien", Some("flu vaccine")),
        ("nasal spary", Some("nasal spray")),
        ("mealtonin", Some("melatonin")),
        ("melatonyn slepe", Some("melatonin sleep")),
        ("emlatonin", Some("melatonin")),
        // The rest decides between words that are as near.
        ("parts spary", Some("parts spare")),
        // Everything else stays as it was.
        ("vaccien? -kids lang:en since:2020-01-01", Some("vaccine? -kids lang:en since:2020-01-01")),
        ("\"nasal spray\" vaccien", Some("\"nasal spray\" vaccine")),
        ("crème soliel", Some("crème soleil")),
        // Known words, in any inflection, and words of other posts are left alone.
        ("nasal spray", None),
        ("sprays", None),
        ("cafe", None),
        ("vaccien jogging", None),
        // Short words, first letters of short words, digits, names, phrases, negations, other scripts, stop words.
        ("flo", None),
        ("xpray", None),
        ("vaccin3", None),
        ("#vaccien", None),
        ("@vaccien", None),
        ("\"vaccien\"", None),
        ("-vaccien flu", None),
        ("from:vaccien", None),
        ("ваксине", None),
        ("睡眠睡眠", None),
        ("there", None),
        ("qqqqzzzz", None),
    ] {
        assert_eq!(fixture.corrected(query).as_deref(), expected, "{query}");
    }
    let long = "vaccien ".repeat(20);
    assert_eq!(fixture.corrected(&long), None, "of very long queries nothing is corrected");
    assert_eq!(fixture.corrected("\"open vaccien").as_deref(), Some("\"open vaccine"));
}

#[tokio::test]
async fn filters_decide_what_a_correction_may_lead_to() {
    let posts = corpus();
    let posts: Vec<(&str, &str)> = posts.iter().map(|(id, text)| (id.as_str(), text.as_str())).collect();
    let fixture = fixture(&posts);
    for (query, filter, expected) in [
        ("flu vaccien", None, Some("flu vaccine")),
        ("flu vaccien", Some("from:ann"), Some("flu vaccine")),
        ("flu vaccien", Some("from:bob"), None),
        ("vaccien from:bob", None, None),
        ("vaccien -\"nasal spray\"", None, None),
    ] {
        let found = fixture.suggester.did_you_mean(query, filter).await.expect(query);
        assert_eq!(found.map(|found| found.text).as_deref(), expected, "{query} {filter:?}");
    }
    assert!(matches!(fixture.suggester.did_you_mean(" ", None).await, Err(SearchError::EmptyQuery)));
}

fn any_text() -> impl Strategy<Value = String> {
    "(\\PC|[ ()\"#@:é-]|OR |from:|nasa|sp|睡|😀|\u{200d}){0,24}"
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_text_breaks_it(typed in any_text()) {
        thread_local!(static FIXTURE: (tokio::runtime::Runtime, Fixture) =
            (tokio::runtime::Runtime::new().expect("a runtime"), fixture(&HEALTH)));
        FIXTURE.with(|(runtime, fixture)| {
            let found = runtime.block_on(fixture.suggester.suggest(&typed, 5, TODAY)).expect("an answer");
            prop_assert!(found.len() <= 5);
            for suggestion in found {
                prop_assert!(suggestion.matched <= suggestion.text.chars().count());
                prop_assert!(suggestion.posts > 0 || suggestion.kind == SuggestionKind::Query);
            }
            fixture.correct(&typed);
            Ok(())
        })?;
    }
}
