//! `bowerbird search`

use bowerbird_posts::Post;

use super::{joined, open};
use crate::cli::SearchArgs;
use crate::config::Config;
use crate::flow;
use crate::stack::Parts;
use crate::wire::search::{ModeName, ScoresBody, SearchBody, SearchPage, SortName, Span};

/// Runs `bowerbird search`.
pub async fn run(config: &Config, args: SearchArgs) -> anyhow::Result<()> {
    let stack = open(config, &args.data_dir, Parts::SEARCH).await?;
    let body =
        SearchBody { limit: args.limit, explain: args.explain || args.json, ..plain(&joined(&args.query)) };
    let page = flow::search(&stack, &body, "cli").await?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&page)?);
    } else {
        print(&page);
    }
    Ok(())
}

/// A search body with every default.
pub fn plain(q: &str) -> SearchBody {
    SearchBody {
        q: q.to_owned(),
        limit: 10,
        cursor: None,
        mode: ModeName::default(),
        filter: None,
        sort: SortName::default(),
        fusion: None,
        facets: Vec::new(),
        rerank: None,
        ads: false,
        explain: false,
        timeout_ms: None,
    }
}

/// A page for the terminal.
pub fn print(page: &SearchPage) {
    if let Some(note) = &page.query.note {
        println!("  ({note})");
    }
    for part in &page.query.ignored {
        println!("  (ignored {}: {})", part.part, part.reason);
    }
    if page.hits.is_empty() {
        println!("  nothing found");
    }
    for hit in &page.hits {
        println!("{:>3}. {}", hit.rank, marked(&hit.post, &hit.highlights));
        println!("     @{} · {} · {}", hit.post.author, hit.post.created_at.strftime("%Y-%m-%d"), hit.id);
        if let Some(scores) = hit.scores {
            println!("     {}", explained(scores));
        }
    }
    let stages: Vec<String> = page
        .stages_ms
        .iter()
        .filter_map(|(stage, ms)| Some(format!("{stage} {:.1}", ms.as_f64()?)))
        .collect();
    let more = if page.total.relation == "gte" { "at least " } else { "" };
    println!("     {more}{} posts match · {:.1} ms ({})", page.total.value, page.took_ms, stages.join(", "));
    if !page.degraded.is_empty() {
        println!("     skipped: {}", page.degraded.join(", "));
    }
}

fn explained(scores: ScoresBody) -> String {
    let part = |name: &str, score: Option<f32>| score.map(|s| format!("{name} {s:.3}"));
    let parts = [
        part("bm25", scores.lexical),
        part("cosine", scores.vector),
        part("fused", scores.fused),
        part("rerank", scores.rerank),
        part("final", Some(scores.r#final)),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" · ")
}

/// The text on one line, matching words in bold when the terminal can.
fn marked(post: &Post, spans: &[Span]) -> String {
    let bold = std::io::IsTerminal::is_terminal(&std::io::stdout());
    let mut line = String::with_capacity(post.text.len() + 16);
    for (at, c) in post.text.chars().enumerate() {
        if bold && spans.iter().any(|span| span.start == at) {
            line.push_str("\x1b[1m");
        }
        // Control characters of a post must not reach the terminal.
        line.push(if c.is_control() { ' ' } else { c });
        if bold && spans.iter().any(|span| span.end == at + 1) {
            line.push_str("\x1b[0m");
        }
    }
    line
}
