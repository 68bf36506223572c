//! `bowerbird search`

use std::time::Duration;

use bowerbird_posts::Post;

use super::{joined, open};
use crate::cli::SearchArgs;
use crate::config::Config;
use crate::flow;
use crate::stack::Parts;
use crate::wire::explain::{FeatureBody, GateBody, HitExplained, LegBody, SearchExplained};
use crate::wire::search::{
    EngagementBody, FusionBody, ModeName, RecencyBody, SearchBody, SearchPage, SortName, Span,
};

/// Runs `bowerbird search`.
pub async fn run(config: &Config, args: SearchArgs) -> anyhow::Result<()> {
    let stack = open(config, &args.data_dir, Parts::SEARCH).await?;
    let body = body(&args);
    let page = flow::search(&stack, &body, "cli").await?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&page)?);
    } else {
        print(&page);
    }
    Ok(())
}

fn body(args: &SearchArgs) -> SearchBody {
    let recency = (args.recency_weight.is_some() || args.recency_half_life.is_some()).then(|| RecencyBody {
        half_life: args.recency_half_life.unwrap_or(Duration::from_hours(7 * 24)),
        // A half-life without a share asks for one that shows.
        weight: args.recency_weight.unwrap_or(0.2),
    });
    SearchBody {
        limit: args.limit,
        explain: args.explain || args.json,
        filter: args.filter.clone(),
        sort: args.sort,
        mode: args.mode,
        fusion: args.fusion.map(|mode| FusionBody { mode, weight: None, k: None }),
        facets: args.facets.clone(),
        recency,
        engagement: args.engagement_weight.map(|weight| EngagementBody { weight }),
        collapse: args.collapse,
        max_per_author: args.max_per_author,
        diversity: args.diversity,
        ..plain(&joined(&args.query))
    }
}

/// A search body with every default.
pub fn plain(q: &str) -> SearchBody {
    SearchBody {
        q: q.to_owned(),
        prefix_last: false,
        limit: 10,
        cursor: None,
        mode: ModeName::default(),
        filter: None,
        sort: SortName::default(),
        fusion: None,
        recency: None,
        engagement: None,
        collapse: None,
        max_per_author: None,
        diversity: None,
        feedback: None,
        now: None,
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
    if let Some(meant) = &page.did_you_mean {
        println!("  did you mean: {}", printable(&meant.text));
    }
    if page.hits.is_empty() {
        println!("  nothing found");
    }
    for hit in &page.hits {
        println!("{:>3}. {}", hit.rank, marked(&hit.post, &hit.highlights));
        println!("     @{} · {} · {}", hit.post.author, hit.post.created_at.strftime("%Y-%m-%d"), hit.id);
        if let Some(collapsed) = &hit.collapsed {
            let more = if collapsed.count == 1 { "post says" } else { "posts say" };
            println!("     {} more {more} the same: {}", collapsed.count, collapsed.ids.join(", "));
        }
        for line in hit.explain.iter().flat_map(explained) {
            println!("     {line}");
        }
    }
    for (field, counts) in &page.facets {
        let counts = counts.as_array().into_iter().flatten();
        let counts: Vec<String> = counts
            .map(|c| format!("{} {}", printable(c["value"].as_str().unwrap_or_default()), c["count"]))
            .collect();
        println!("     {field}: {}", counts.join(", "));
    }
    if let Some(explain) = &page.explain {
        println!("     {}", list_explained(explain));
    }
    let stages: Vec<String> = page
        .stages_ms
        .iter()
        .filter_map(|(stage, ms)| Some(format!("{stage} {:.1}", ms.as_f64()?)))
        .collect();
    let more = if page.total.relation == "gte" { "at least " } else { "" };
    println!("     {more}{} posts match · {:.1} ms ({})", page.total.value, page.took_ms, stages.join(", "));
    if page.truncated {
        println!("     no page reaches further: search.max_hits is reached");
    }
    if !page.degraded.is_empty() {
        println!("     skipped: {}", page.degraded.join(", "));
    }
}

/// One line a step, so that the score can be followed from the words to the end.
fn explained(explain: &HitExplained) -> Vec<String> {
    let mut lines = Vec::new();
    let terms: Vec<String> = explain.terms.iter().map(|t| format!("{} {:.3}", t.text, t.score)).collect();
    let leg = |name: &str, leg: &LegBody, parts: String| {
        let score = leg.score.map_or_else(|| "none".into(), |score| format!("{score:.3}"));
        let rank = leg.rank.map_or_else(|| "not listed".into(), |rank| format!("rank {rank}"));
        let scaled = leg.scaled.unwrap_or_default();
        format!("{name:<9} {score} ({rank}){parts} → {scaled:.3} × {:.3}", leg.share)
    };
    let words = if terms.is_empty() { String::new() } else { format!(" = {}", terms.join(" + ")) };
    lines.extend(explain.lexical.as_ref().map(|l| leg("bm25", l, words)));
    lines.extend(explain.vector.as_ref().map(|l| leg("cosine", l, String::new())));
    lines.extend(explain.fused.map(|fused| format!("fused     {fused:.3}")));
    lines.extend(explain.rerank.map(|r| {
        format!(
            "rerank    {:.3} → {:.3} × {:.2} + {:.3} × {:.2} = {:.3}",
            r.logit,
            r.logit_scaled,
            r.share,
            r.fused_scaled,
            1.0 - r.share,
            r.blended
        )
    }));
    if let Some(relevance) = explain.relevance {
        let raised =
            explain.raised_from.map(|from| format!(", raised from {from:.3}: holds every rare word"));
        lines.push(format!("relevance {relevance:.3}{}", raised.unwrap_or_default()));
    }
    let feature = |name: &str, unit: &str, feature: FeatureBody| {
        format!("{name} {}{unit} → {:.3} × {:.2}", feature.raw, feature.value, feature.weight)
    };
    lines.extend(explain.recency.map(|f| feature("age      ", " s", f)));
    lines.extend(explain.engagement.map(|f| feature("engagement", "", f)));
    let part = explain.part.unwrap_or("as listed");
    let moves = explain.ranks.map_or_else(String::new, |r| {
        let places = [r.fused, r.relevance, r.weighed, r.collapsed, r.diverse].map(|rank| rank.to_string());
        format!(", place by step {}", places.join(" → "))
    });
    lines.push(format!("final     {:.3} ({part}{moves})", explain.r#final));
    lines
}

fn list_explained(explain: &SearchExplained) -> String {
    let rare = match explain.exact_posts {
        0 => String::new(),
        posts => format!(" · every rare word in {posts} posts"),
    };
    format!(
        "{} candidates ({} by words, {} by meaning) · {} read closely{} · {} near-duplicates, {} over the author limit · \
         coverage {:.2}{rare} · now {}",
        explain.candidates,
        explain.lexical,
        explain.vector,
        explain.reranked,
        explain.gate.as_ref().map_or_else(String::new, gate_explained),
        explain.removed.near_duplicates,
        explain.removed.author_limit,
        explain.coverage,
        explain.now
    )
}

/// Why as many were read closely.
fn gate_explained(gate: &GateBody) -> String {
    let probability =
        gate.probability.map_or_else(String::new, |p| format!(", useful with probability {p:.2}"));
    let predicted = gate.predicted_ms.map_or_else(String::new, |ms| format!(", {ms:.0} ms expected"));
    format!(
        " ({}: {} of {} wanted{probability}{predicted}, {:.0} ms left)",
        gate.reason, gate.depth, gate.wanted, gate.left_ms
    )
}

/// A value of a post without control characters.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
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
