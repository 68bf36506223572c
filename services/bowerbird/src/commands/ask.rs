//! `bowerbird ask`

use bowerbird_answer::Answer;

use super::{joined, open};
use crate::cli::AskArgs;
use crate::config::Config;
use crate::flow;
use crate::stack::Parts;
use crate::wire::answer::{AnswerBody, AnswerPage};

/// Runs `bowerbird ask`.
pub async fn run(config: &Config, args: AskArgs) -> anyhow::Result<()> {
    let stack = open(config, &args.data_dir, Parts { answer: true, ads: args.json }).await?;
    let (answer, page) = ask(&stack, &joined(&args.question), args.json).await?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&page)?);
    } else {
        print(&answer);
    }
    Ok(())
}

/// One question to its answer, and the same as JSON.
pub async fn ask(stack: &crate::stack::Stack, q: &str, ads: bool) -> anyhow::Result<(Answer, AnswerPage)> {
    let body = AnswerBody {
        q: q.to_owned(),
        stream: false,
        filter: None,
        ads,
        beside_ads: Vec::new(),
        max_sentences: None,
        timeout_ms: None,
    };
    let flow::Question { found, request, .. } = flow::question(stack, &body).await?;
    let wanted = ads.then(|| flow::answer_ads(stack, &request, flow::beside(&found.hits), Vec::new()));
    let writing = flow::answerer(stack)?.answer(request);
    let (answer, looked) = flow::with_ads(stack, wanted, std::future::ready(()), writing).await;
    let ads = flow::below(stack, looked, &answer.text).await;
    let page = AnswerPage { answer: serde_json::to_value(&answer)?, ads, request_id: "cli".into() };
    Ok((answer, page))
}

/// An answer for the terminal.
pub fn print(answer: &Answer) {
    if answer.sentences.is_empty() {
        println!("  no answer: {}", answer.summary.reason.as_deref().unwrap_or("no evidence"));
        return;
    }
    for sentence in &answer.sentences {
        let marks = bowerbird_answer::marks(&sentence.citations);
        println!("  {} {marks}  ({}, {:.2})", sentence.text, sentence.origin.as_str(), sentence.probability);
    }
    for sentence in &answer.sentences {
        for citation in &sentence.citations {
            let author = answer.sources.iter().find(|s| s.n == citation.n).map_or("", |s| s.author.as_str());
            println!("  [{}] @{author}: {}", citation.n, citation.quote);
        }
    }
}
