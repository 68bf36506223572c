//! Kept answers: the same events, never older than their posts, never for another question.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use bowerbird_models_api::TextRole;
use bowerbird_posts::{Op, PostId};
use bowerbird_scheduler::{Job, Priority};
use bowerbird_tests::{Fixture, fixture, post, post_json, real_models, stub_models};
use serde_json::{Value, json};

use crate::support::{Copying, Sent, read_events};

const Q: &str = "coffee lowers the risk of disease";

async fn open() -> (Fixture, Arc<Copying>) {
    let texts = [
        ("liver", "Coffee lowers the risk of liver disease in adults"),
        ("heart", "Coffee lowers the risk of heart disease in women"),
        ("other", "Running shoes are on sale today"),
    ];
    let mut models = stub_models("");
    let copying = Arc::new(Copying::default());
    models.generator = Some(copying.clone());
    let posts = texts.iter().map(|(id, text)| post(id, "ann", "2015-01-01", text)).collect();
    (fixture(models, posts).await, copying)
}

/// The answer, and how many prompts it took.
async fn ask((fixture, copying): &(Fixture, Arc<Copying>), body: Value) -> (Value, usize) {
    let before = copying.prompts.lock().expect("not poisoned").len();
    let (status, answer) = post_json(&fixture.router, "/v1/answer", body).await;
    assert!(status.is_success(), "{answer}");
    (answer, copying.prompts.lock().expect("not poisoned").len() - before)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_answer_is_the_same_and_says_so() {
    let open = open().await;
    let (first, prompts) = ask(&open, json!({"q": Q})).await;
    assert!(prompts >= 2 && first["usage"]["cached"] == false, "{first}");
    for q in [Q.to_owned(), format!("  {}? ", Q.to_uppercase())] {
        let (again, prompts) = ask(&open, json!({"q": q})).await;
        assert_eq!((prompts, &again["usage"]["cached"]), (0, &json!(true)), "{again}");
        for part in ["answer", "sentences", "sources", "finish_reason"] {
            assert_eq!(first[part], again[part]);
        }
    }
    let events = |stream: Value| {
        let request = Request::post("/v1/answer").body(Body::from(stream.to_string())).expect("a request");
        read_events(&open.0.router, request)
    };
    let kept = events(json!({"q": Q, "stream": true})).await;
    // Sentence for sentence what a stream tells that writes: another option is another answer.
    let written = events(json!({"q": Q, "stream": true, "max_sentences": 4})).await;
    let told = |events: &[Sent]| -> Vec<(String, Value)> {
        let body = events.iter().filter(|e| e.name != "meta" && e.name != "done");
        body.map(|event| (event.name.clone(), event.data.clone())).collect()
    };
    assert_eq!(told(&kept), told(&written));
    let cached = |events: &[Sent]| events.last().expect("an end").data["usage"]["cached"].clone();
    assert_eq!((cached(&kept), cached(&written)), (json!(true), json!(false)));
    for other in [
        json!({"q": "coffee lowers the risk of heart disease"}),
        json!({"q": Q, "max_sentences": 1}),
        json!({"q": Q, "filter": "from:ann"}),
    ] {
        assert_eq!(ask(&open, other).await.0["usage"]["cached"], false);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_to_a_cited_post_takes_the_answer_away_at_once() {
    let open = open().await;
    let live = &open.0.stack.live;
    ask(&open, json!({"q": Q})).await;
    let edit = post("heart", "ann", "2015-01-01", "Tea is another thing entirely");
    live.write(vec![Op::Upsert(Box::new(edit))]).await.expect("acknowledged");
    let (answer, _) = ask(&open, json!({"q": Q})).await;
    assert!(answer["usage"]["cached"] == false && !answer.to_string().contains("heart disease"), "{answer}");
    live.write(vec![Op::Delete(PostId::new("liver").expect("valid"))]).await.expect("acknowledged");
    let (answer, _) = ask(&open, json!({"q": Q})).await;
    assert!(answer["usage"]["cached"] == false && !answer.to_string().contains("liver"), "{answer}");
    // A better post among the sources is not hidden by what was said without it.
    let better =
        post("new", "bob", "2015-02-01", "Coffee lowers the risk of disease, says a study of nurses");
    bowerbird_tests::write(&open.0.stack, vec![better]).await;
    let (answer, _) = ask(&open, json!({"q": Q})).await;
    assert!(answer["usage"]["cached"] == false && answer.to_string().contains("nurses"), "{answer}");
}

/// Pairs of queries that ask the same in other words.
const SAME: [(&str, &str); 40] = [
    ("can't nod off at night", "unable to fall asleep at night"),
    ("my head is throbbing", "I have a pounding headache"),
    ("shoes for jogging", "jogging shoes"),
    ("kids not getting their shots", "children who are not vaccinated"),
    ("office job aching spine", "back pain from sitting at a desk"),
    ("gadgets that count your steps", "step counting gadgets"),
    ("are vaping devices safe for teenagers", "is vaping safe for teenagers"),
    ("new york large soda ban", "ban on large sodas in new york"),
    ("hospital nurse infected in Texas", "Texas hospital nurse infected"),
    ("mosquito disease caribbean", "caribbean mosquito disease"),
    ("is coffee good or bad for you", "is coffee healthy or unhealthy"),
    ("does aspirin prevent cancer", "can aspirin prevent cancer"),
    ("is barefoot running better", "is it better to run barefoot"),
    ("foods that lower blood pressure", "what to eat to lower blood pressure"),
    ("how much water should I drink", "how much water to drink"),
    ("symptoms of a heart attack in women", "heart attack symptoms in women"),
    ("healthy breakfast ideas", "ideas for a healthy breakfast"),
    ("yoga for beginners", "beginner yoga"),
    ("flu shot side effects", "side effects of the flu shot"),
    ("insurance marketplace enrollment deadline", "deadline to enroll in the insurance marketplace"),
    ("measles outbreak disneyland", "disneyland measles outbreak"),
    ("quit smoking tips", "tips to quit smoking"),
    ("stress at work", "work stress"),
    ("sunscreen safe for children", "is sunscreen safe for children"),
    ("low carb or low fat diet", "low fat or low carb diet"),
    ("peanut allergy treatment", "treatment of peanut allergy"),
    ("strength training for older adults", "older adults strength training"),
    ("depression after childbirth", "postpartum depression"),
    ("antibiotic resistance superbugs", "superbugs resistant to antibiotics"),
    ("autism causes", "what causes autism"),
    ("concussion in football players", "football players with concussion"),
    ("gluten free diet benefits", "benefits of a gluten free diet"),
    ("vitamin D supplements", "supplements of vitamin D"),
    ("hospital prices", "what hospitals charge"),
    ("nursing home care", "care in nursing homes"),
    ("teen pregnancy rate", "rate of teen pregnancy"),
    ("hepatitis C drug cost", "cost of hepatitis C drugs"),
    ("medical marijuana", "marijuana as medicine"),
    ("air pollution asthma", "asthma and air pollution"),
    ("HPV vaccine girls", "HPV vaccine for girls"),
];

/// Pairs that ask for something else, by a number, a name, a negation or a group of people.
const OTHER: [(&str, &str); 80] = [
    ("can't nod off at night", "can't wake up in the morning"),
    ("my head is throbbing", "my knee is throbbing"),
    ("shoes for jogging", "clothes for jogging"),
    ("kids not getting their shots", "kids getting their shots"),
    ("office job aching spine", "office job aching wrists"),
    ("gadgets that count your steps", "gadgets that count your calories"),
    ("are vaping devices safe for teenagers", "are vaping devices safe for adults"),
    ("are vaping devices safe for teenagers", "are vaping devices not safe for teenagers"),
    ("new york large soda ban", "san francisco large soda ban"),
    ("hospital nurse infected in Texas", "hospital nurse infected in Ohio"),
    ("hospital nurse infected in Texas", "hospital doctor infected in Texas"),
    ("mosquito disease caribbean", "mosquito disease florida"),
    ("is coffee good or bad for you", "is tea good or bad for you"),
    ("does aspirin prevent cancer", "does aspirin cause cancer"),
    ("does aspirin prevent cancer", "does ibuprofen prevent cancer"),
    ("does aspirin prevent cancer", "does aspirin prevent stroke"),
    ("is barefoot running better", "is barefoot running worse"),
    ("foods that lower blood pressure", "foods that raise blood pressure"),
    ("foods that lower blood pressure", "foods that lower blood sugar"),
    ("how much water should I drink", "how much milk should I drink"),
    ("how much water should I drink", "how much water should I not drink"),
    ("symptoms of a heart attack in women", "symptoms of a heart attack in men"),
    ("symptoms of a heart attack in women", "symptoms of a stroke in women"),
    ("healthy breakfast ideas", "healthy lunch ideas"),
    ("healthy breakfast ideas", "unhealthy breakfast ideas"),
    ("yoga for beginners", "pilates for beginners"),
    ("flu shot side effects", "measles shot side effects"),
    ("flu shot side effects 2013", "flu shot side effects 2014"),
    ("flu shot 2013", "flu shot 2014"),
    ("insurance marketplace enrollment deadline", "insurance marketplace enrollment deadline 2016"),
    ("insurance marketplace enrollment deadline 2014", "insurance marketplace enrollment deadline 2015"),
    ("measles outbreak disneyland", "mumps outbreak disneyland"),
    ("measles outbreak disneyland", "measles outbreak ohio"),
    ("quit smoking tips", "quit drinking tips"),
    ("stress at work", "stress at school"),
    ("stress at work", "no stress at work"),
    ("sunscreen safe for children", "sunscreen safe for babies"),
    ("sunscreen safe for children", "sunscreen not safe for children"),
    ("sunscreen spf 30", "sunscreen spf 50"),
    ("low carb or low fat diet", "high carb or high fat diet"),
    ("peanut allergy treatment", "egg allergy treatment"),
    ("peanut allergy treatment", "peanut allergy test"),
    ("strength training for older adults", "strength training for young adults"),
    ("depression after childbirth", "depression before childbirth"),
    ("antibiotic resistance superbugs", "pesticide resistance superbugs"),
    ("autism causes", "autism treatments"),
    ("autism causes", "adhd causes"),
    ("concussion in football players", "concussion in soccer players"),
    ("concussion in football players", "concussion in hockey players"),
    ("gluten free diet benefits", "gluten free diet risks"),
    ("gluten free diet benefits", "dairy free diet benefits"),
    ("vitamin D supplements", "vitamin C supplements"),
    ("vitamin D supplements", "vitamin E supplements"),
    ("vitamin D 1000 iu", "vitamin D 5000 iu"),
    ("hospital prices", "hospital ratings"),
    ("hospital prices 2013", "hospital prices 2014"),
    ("nursing home care", "nursing home abuse"),
    ("teen pregnancy rate", "teen suicide rate"),
    ("teen pregnancy rate 2012", "teen pregnancy rate 2013"),
    ("hepatitis C drug cost", "hepatitis B drug cost"),
    ("hepatitis C drug cost", "hepatitis C drug side effects"),
    ("medical marijuana", "recreational marijuana"),
    ("medical marijuana colorado", "medical marijuana california"),
    ("air pollution asthma", "air pollution cancer"),
    ("air pollution beijing", "air pollution delhi"),
    ("HPV vaccine girls", "HPV vaccine boys"),
    ("ebola deaths in liberia", "ebola deaths in guinea"),
    ("ebola patient dallas", "ebola patient new york"),
    ("is running 5 km enough", "is running 10 km enough"),
    ("8 hours of sleep", "6 hours of sleep"),
    ("exercise lowers risk of diabetes", "exercise does not lower risk of diabetes"),
    ("drug approved by fda", "drug rejected by fda"),
    ("how many people in the US got measles in 2013", "how many people in the US got measles in 2014"),
    ("how many children got the flu shot in 2013", "how many children got the flu shot in 2014"),
    ("is it safe to take 200 mg of ibuprofen a day", "is it safe to take 800 mg of ibuprofen a day"),
    (
        "can women over 40 lower the risk of heart disease",
        "can women over 50 lower the risk of heart disease",
    ),
    ("number of new ebola cases in october 2014", "number of new ebola cases in november 2014"),
    (
        "does walking 30 minutes a day help with weight loss",
        "does walking 20 minutes a day help with weight loss",
    ),
    ("side effects of the flu shot in adults over 65", "side effects of the flu shot in adults under 65"),
    ("what should I eat before a workout", "what should I eat after a workout"),
];

/// The numbers in the head of `answers.rs`. If a better embedder ever separates the two, this test says so.
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stderr, reason = "the numbers are what the test is for")]
async fn no_similarity_of_embeddings_tells_the_same_question_from_another() {
    let encoders = real_models().encoders;
    let job = Job { priority: Priority::Bulk, deadline: None };
    let cosines = async |pairs: &[(&'static str, &'static str)]| {
        let mut cosines: Vec<f32> = Vec::new();
        for (a, b) in pairs {
            let a = encoders.embed(a, TextRole::Query, job).await.expect("embeds");
            let b = encoders.embed(b, TextRole::Query, job).await.expect("embeds");
            cosines.push(a.as_slice().iter().zip(b.as_slice()).map(|(x, y)| x * y).sum::<f32>());
        }
        cosines.sort_by(f32::total_cmp);
        cosines
    };
    let (same, other) = (cosines(&SAME).await, cosines(&OTHER).await);
    eprintln!("the nearest other questions: {:.3?}", &other[other.len() - 12..]);
    eprintln!("the nearest rewordings: {:.3?}", &same[same.len() - 12..]);
    let most = other[other.len() - 1];
    let shared = same.iter().filter(|cosine| **cosine > most).count();
    eprintln!(
        "other questions: median {:.3}, most {most:.3}; same: least {:.3}, median {:.3}, most {:.3}; above all others: {shared} of {}",
        other[other.len() / 2],
        same[0],
        same[same.len() / 2],
        same[same.len() - 1],
        same.len(),
    );
    let median = same[same.len() / 2];
    let false_hits = other.iter().filter(|cosine| **cosine >= median).count();
    eprintln!(
        "a threshold that shares half of the rewordings has {false_hits} of {} false hits",
        other.len()
    );
    assert!(false_hits > 0, "a threshold separates now: answers could be shared above {most:.3}");
}
