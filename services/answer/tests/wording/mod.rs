//! The words that the real generator uses in answers.

use bowerbird_models_api::{GenerateRequest, GenerationStream};

use super::*;

/// Posts that state one thing each, with the question they answer.
const PAIRS: [(&str, &str); 22] = [
    (
        "does coffee lower cancer risk",
        "Daily Coffee May Lower Your Skin Cancer Risk: http://on-msn.com/txwZAo",
    ),
    ("how many died of ebola", "More than 4,000 people have died from the Ebola outbreak in West Africa"),
    ("is the flu shot effective", "This Year\u{2019}s Flu Shot Is Only 23% Effective, CDC Says"),
    ("is nina pham free of ebola", "Dallas nurse Nina Pham is now free of the virus, officials say"),
    ("does yoga help back pain", "Yoga eases chronic back pain better than usual care"),
    ("do standing desks burn calories", "Standing desks burn 50 more calories an hour than chairs"),
    ("is barefoot running better", "Barefoot running is not better for your knees"),
    ("how large is the measles outbreak", "Measles outbreak linked to Disneyland grows to 94 cases"),
    (
        "does vaping lead to smoking",
        "Teens who vape are more likely to smoke, a study of 2,300 students found",
    ),
    ("does a gluten free diet help", "Gluten-free diets do nothing for most people"),
    ("what treats peanut allergy", "FDA approves the first pill for peanut allergy"),
    ("does vitamin D prevent colds", "Vitamin D does not prevent colds in healthy adults"),
    ("how much do hospital prices vary", "Hospital prices vary from $1,200 to $12,000 for the same test"),
    ("does air pollution cause asthma", "Air pollution raises the risk of asthma in children"),
    ("when should I quit smoking", "Quit smoking before 40 and gain 9 years of life"),
    ("how much does the hepatitis C drug cost", "Hepatitis C drug Sovaldi costs $84,000 for a course"),
    ("heart attack symptoms in women", "Women's heart attacks often begin without chest pain"),
    ("does aspirin prevent cancer", "Low-dose aspirin may cut colon cancer risk by a third"),
    ("is red wine good for the heart", "A glass of red wine with dinner helps the hearts of diabetics"),
    ("how much sleep do teenagers need", "Teenagers need 9 hours of sleep, doctors say"),
    ("did the soda ban fail", "New York's ban on large sodas was struck down by a judge"),
    ("does exercise help depression", "Regular exercise eases depression as well as pills do"),
];

/// Function words that a restatement may add; the list of the crate, written out.
const FUNCTION_WORDS: &str = "a about according after also although am an and any are as at be been being but by can \
    cent could did do does doing during each else for from get gets got had has have having he her here hers him his \
    how i if in into is it its itself just let may me might my of off on or our ours out over own pct per percent \
    percentage rt said say saying says shall she should so some such than that the their theirs them then there these \
    they this those through to too under until upon us very via was we were what when where whether which while who \
    whom whose why will with within would you your yours";

/// The real generator, which is asked twice: as answers ask it, and without words to keep to. Keeps what it said.
struct Listening {
    inner: Arc<dyn Generator>,
    asked: Arc<std::sync::Mutex<Vec<GenerateRequest>>>,
}

impl Generator for Listening {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn generate(&self, request: GenerateRequest) -> GenerationStream {
        self.asked.lock().expect("not poisoned").push(request.clone());
        self.inner.generate(request)
    }
}

fn bare(word: &str) -> String {
    word.trim_matches(|c: char| !c.is_alphanumeric()).replace('\u{2019}', "'").to_lowercase()
}

#[tokio::test(flavor = "multi_thread")]
async fn content_words_of_generated_sentences_are_those_of_their_posts() {
    let Some(root) = models() else { return };
    let asked = Arc::default();
    let generator = Listening { inner: embedded(&root), asked: Arc::clone(&asked) };
    let answerer = Answerer::new(Arc::new(generator), encoders(&root), AnswerConfig::default());
    let mut generated = 0;
    for (question, post) in PAIRS {
        let answer = answerer.answer(request(question, vec![source(1, "a-1", post)])).await;
        assert_sound(&answer);
        generated += answer.sentences.iter().filter(|s| s.origin == Origin::Generated).count();
    }
    let asked = asked.lock().expect("not poisoned").clone();
    assert!(asked.len() >= 20, "{}", asked.len());
    // What was generated, accepted or not.
    let inner = embedded(&root);
    for request in asked {
        let quote = request.messages.last().expect("a question").content.clone();
        let posts: BTreeSet<String> = quote.split_whitespace().map(bare).collect();
        let deadline = Instant::now() + Duration::from_mins(2);
        let mut stream = inner.generate(GenerateRequest { deadline, ..request });
        let mut text = String::new();
        while let Some(piece) = stream.recv().await {
            if let bowerbird_models_api::Piece::Text(more) = piece.expect("generates") {
                text.push_str(&more);
            }
        }
        let words: Vec<String> = text.split_whitespace().map(bare).filter(|w| !w.is_empty()).collect();
        // The last word may have been cut off by the limit on tokens.
        for word in &words[..words.len().saturating_sub(1)] {
            let owner = posts.contains(&format!("{word}'s"));
            let known = posts.contains(word) || owner || FUNCTION_WORDS.split_whitespace().any(|f| f == word);
            assert!(known, "{word:?} of {text:?} is not in {quote}");
        }
    }
    println!("{generated} of {} posts were restated", PAIRS.len());
    assert!(generated > 0);
}
