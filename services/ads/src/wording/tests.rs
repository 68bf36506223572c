use bowerbird_models_api::Embedding;

use super::*;
use crate::booking::Review;

fn ad() -> Ad {
    Ad {
        id: "a".into(),
        group: 0,
        version: 1,
        headline: "Iron for your home".into(),
        text: "Weights of all kinds.".into(),
        landing_url: "https://iron.example/bells".into(),
        display_url: "iron.example/bells".into(),
        facts: vec!["Iron is sold by weight.".into(), "Kettlebells from 4 to 32 kg in cast iron.".into()],
        review: Review::Approved,
        cap: None,
        enabled: true,
        passage: "".into(),
        embedding: Embedding::normalized(vec![1.0]).expect("a direction").into(),
    }
}

fn draft(fact: usize, quote: &str, text: &str) -> Draft {
    Draft { text: text.into(), fact, quote: quote.into(), probability: 0.9 }
}

#[test]
fn a_draft_is_taken_for_what_its_fact_says_and_not_for_what_its_author_says() {
    let quote = "Kettlebells from 4 to 32 kg";
    for (draft, expected) in [
        (draft(1, quote, "Kettlebells from 4 to 32 kg."), Ok(())),
        (draft(0, quote, "Kettlebells from 4 to 32 kg."), Err(Outcome::Unsupported)),
        (draft(7, quote, "Kettlebells from 4 to 32 kg."), Err(Outcome::Unsupported)),
        (draft(1, "", "Kettlebells from 4 to 32 kg."), Err(Outcome::Unsupported)),
        (draft(1, quote, "The lightest kettlebells from 4 to 32 kg."), Err(Outcome::Unfaithful)),
        (draft(1, quote, "Kettlebells\u{202e} from 4 to 32 kg."), Err(Outcome::Unfaithful)),
        (draft(1, quote, &"Kettlebells from 4 to 32 kg. ".repeat(6)), Err(Outcome::TooLong)),
        (draft(1, quote, "weights of all kinds"), Err(Outcome::Same)),
        (draft(1, quote, "KETTLEBELLS FROM 4 TO 32 KG IN CAST IRON"), Err(Outcome::Policy)),
    ] {
        assert_eq!(accept(&ad(), &draft), expected, "{draft:?}");
    }
}

#[test]
fn what_an_operator_approved_against_the_rules_is_not_said_anew() {
    let fact = "CBD oil for dogs, pressed cold.";
    let ad = Ad { facts: vec![fact.into()], ..ad() };
    assert_eq!(accept(&ad, &draft(0, fact, "CBD oil for dogs is pressed cold.")), Err(Outcome::Policy));
}
