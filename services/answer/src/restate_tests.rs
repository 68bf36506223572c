//! What a rejected sentence is followed by.

use super::*;

/// Says one thing at first and another when asked again, and keeps what it was asked.
struct Twice {
    first: fn(&str) -> String,
    second: fn(&str) -> String,
    asked: Arc<Mutex<Vec<GenerateRequest>>>,
}

impl Generator for Twice {
    fn name(&self) -> &'static str {
        "twice"
    }

    fn generate(&self, request: GenerateRequest) -> GenerationStream {
        let say = if request.temperature == 0.0 { self.first } else { self.second };
        self.asked.lock().expect("not poisoned").push(request.clone());
        Scripted::new(move |quote: &str| Ok(say(quote))).generate(request)
    }
}

async fn answered(
    first: fn(&str) -> String,
    second: fn(&str) -> String,
    config: AnswerConfig,
) -> (Answer, Vec<GenerateRequest>) {
    let asked = Arc::default();
    let generator = Twice { first, second, asked: Arc::clone(&asked) };
    let answerer = Answerer::new(Arc::new(generator), encoders_with(|| StubReranker), config);
    let answer = answerer.answer(request(&POSTS)).await;
    assert_sound(&answer);
    let asked = asked.lock().expect("not poisoned").clone();
    (answer, asked)
}

fn copied(quote: &str) -> String {
    format!("{quote}.")
}

fn invented(_: &str) -> String {
    "Bananas are yellow and grow on trees.".to_owned()
}

#[tokio::test]
async fn a_rejected_sentence_is_asked_for_once_more() {
    let (answer, asked) = answered(invented, copied, AnswerConfig::default()).await;
    let usage = answer.summary.usage;
    assert_eq!((usage.generated, usage.regenerated, usage.replaced, usage.dropped), (0, 3, 0, 0));
    assert!(answer.sentences.iter().all(|s| s.origin == Origin::Generated));
    assert_eq!(asked.len(), 6);
    assert_ne!(asked[0].seed, asked[1].seed);
    let words = |request: &GenerateRequest| request.constraint.clone().expect("constrained").words.len();
    assert!(words(&asked[1]) < words(&asked[0]), "the second try has fewer words");
    assert_eq!(serde_json::to_value(usage).expect("serialises")["regenerated"], 3);
}

#[tokio::test]
async fn a_sentence_rejected_twice_is_quoted() {
    let (answer, asked) = answered(invented, invented, AnswerConfig::default()).await;
    let usage = answer.summary.usage;
    assert_eq!((usage.generated, usage.regenerated, usage.replaced), (0, 0, 3));
    assert_eq!(asked.len(), 6, "no third try");
}

#[tokio::test]
async fn both_can_be_turned_off() {
    let config = AnswerConfig { constrain: false, regenerate: false, ..AnswerConfig::default() };
    let (answer, asked) = answered(invented, copied, config).await;
    assert_eq!((answer.summary.usage.replaced, asked.len()), (3, 3));
    assert!(asked.iter().all(|request| request.constraint.is_none()));
}
