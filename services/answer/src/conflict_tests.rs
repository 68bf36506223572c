//! Answers from posts that disagree.

use super::*;

const EBOLA: [&str; 3] = [
    "More than 4,000 people have died from Ebola http://t.co/a",
    "Officials: 5,000 people have died from Ebola",
    "Nina Pham leaves hospital after beating Ebola",
];

fn asked(question: &str, posts: &[&str]) -> AnswerRequest {
    AnswerRequest { question: question.into(), ..request(posts) }
}

#[tokio::test]
async fn both_sides_are_shown_with_their_dates_newest_first() {
    let mut asked = asked("How many people have died from Ebola?", &EBOLA);
    asked.sources[0].created_at = "2014-10-10T12:00:00Z".parse().expect("a time");
    asked.sources[1].created_at = "2014-11-20T12:00:00Z".parse().expect("a time");
    asked.sources[1].author = "who".into();
    let answer = answerer(Scripted::new(|quote: &str| Ok(format!("{quote}.")))).answer(asked).await;
    assert_sound(&answer);
    assert!(
        answer.text.starts_with(
            "Posts disagree. On 2014-11-20: Officials: 5,000 people have died from Ebola [2] \
             On 2014-10-10: More than 4,000 people have died from Ebola [1]"
        ),
        "{}",
        answer.text
    );
    let [newer, older] = &answer.sentences[..2] else { panic!("two sides: {answer:?}") };
    assert_eq!((newer.conflict, older.conflict), (Some(1), Some(1)));
    assert_eq!((newer.origin, newer.claim()), (Origin::Extracted, newer.citations[0].quote.as_str()));
    assert_eq!(newer.citations[0].author, "who");
    assert_eq!(answer.summary.usage.conflicting, 2);
    assert!(answer.sentences[2..].iter().all(|s| s.conflict.is_none()));
    let json = serde_json::to_value(&answer).expect("serialises");
    assert_eq!(json["sentences"][0]["citations"][0]["created_at"], "2014-11-20T12:00:00Z");
    assert_eq!(json["sentences"][0]["lead"], "Posts disagree. On 2014-11-20: ");
    assert!(json["sentences"][2].get("lead").is_none());
}

#[tokio::test]
async fn a_denial_is_shown_beside_what_it_denies() {
    let posts =
        ["Coffee lowers the risk of gout", "Coffee does not lower the risk of gout, a new study finds"];
    let copying = Scripted::new(|quote: &str| Ok(format!("{quote}.")));
    let answer = answerer(copying).answer(asked("does coffee lower the risk of gout", &posts)).await;
    assert_sound(&answer);
    assert_eq!(answer.sentences.len(), 2, "{answer:?}");
    assert!(answer.text.starts_with("Posts disagree. "), "{}", answer.text);
}

#[tokio::test]
async fn with_room_for_one_sentence_the_newest_stands_with_a_warning() {
    let one = AnswerRequest { max_sentences: 1, ..asked("How many people have died from Ebola?", &EBOLA) };
    let answer = answerer(Scripted::new(|quote: &str| Ok(quote.to_owned()))).answer(one).await;
    assert_eq!(answer.sentences.len(), 1);
    assert!(answer.text.starts_with("Posts disagree. "), "{}", answer.text);
    assert_eq!(answer.sentences[0].citations[0].n, 1, "the newest");
}

#[tokio::test]
async fn a_side_whose_other_side_has_gone_is_an_ordinary_sentence() {
    let gone = AnswerRequest {
        still_there: StillThere(Arc::new(|n| n != 1)),
        ..asked("How many people have died from Ebola?", &EBOLA)
    };
    let answer = answerer(Scripted::new(|quote: &str| Ok(format!("{quote}.")))).answer(gone).await;
    assert_sound(&answer);
    assert!(answer.sentences.iter().any(|s| s.citations[0].n == 2), "{answer:?}");
    assert!(answer.sentences.iter().all(|s| s.lead.is_none() && s.conflict.is_none()));
    assert_eq!(answer.summary.usage.conflicting, 0);
}
