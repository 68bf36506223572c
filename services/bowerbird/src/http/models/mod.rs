//! `POST /v1/embeddings`, and the three calls that rerank: the models of the server for the texts of others.
//!
//! Nothing here reads or writes a post. Texts go through the queue that searches use, behind them (`run.rs`).

mod run;

use std::num::NonZeroUsize;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bowerbird_models_api::{ModelError, PairRead, RerankLogit};
use bowerbird_scheduler::SchedulerError;
use serde::Serialize;

use crate::http::json::LargeJson;
use crate::http::problem::Problem;
use crate::http::{App, RequestId};
use crate::wire::error::ErrorBody;
use crate::wire::models::{
    ApiVersion, BilledUnits, EmbeddingItem, EmbeddingsBody, EmbeddingsPage, EmbeddingsUsage, RerankMeta,
    RerankPage, RerankResult, RerankTokens, RerankV1Body, RerankV2Body, RerankedText, TeiRank, TeiRerankBody,
    Vector,
};
use run::{Run, empty_text};

pub(in crate::http) use run::places;

/// Documents of one of Cohere's search units.
const SEARCH_UNIT: usize = 100;

/// Embed texts, in the shape of OpenAI's call.
#[utoipa::path(post, path = "/v1/embeddings", request_body = EmbeddingsBody, responses(
    (status = 200, body = EmbeddingsPage), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody),
    (status = 429, body = ErrorBody), (status = 504, body = ErrorBody),
))]
pub async fn embeddings(
    State(app): State<App>,
    LargeJson(body): LargeJson<EmbeddingsBody>,
) -> Result<Response, Problem> {
    let encoders = &app.stack.encoders;
    let space = encoders.space();
    known(body.model.as_deref(), &space.model, "embeds")?;
    if let Some(asked) = body.dimensions.filter(|asked| usize::try_from(*asked) != Ok(space.dim)) {
        let (model, dim) = (&space.model, space.dim);
        let message = format!("dimensions is {asked}, {model} has {dim}: leave it out");
        return Err(Problem::invalid("dimensions_not_supported", "dimensions", message));
    }
    let (texts, listed) = (body.input.texts, body.input.listed);
    let place = |n: usize| if listed { format!("input[{n}]") } else { "input".to_owned() };
    check_texts("input", &texts, place)?;

    let run = Run::start(&app, texts.len(), body.timeout_ms)?;
    let role = body.input_type.into();
    let embedded = run.each(|n, job| encoders.embed_counted(&texts[n], role, job)).await;
    let embedded = embedded.map_err(|failed| {
        let place = place(failed.item);
        run.problem(failed, &place)
    })?;

    let prompt_tokens = embedded.iter().map(|(_, read)| read.tokens).sum();
    let cut = embedded.iter().enumerate().filter(|(_, (_, read))| read.dropped > 0);
    let truncated = cut.map(|(index, _)| index).collect();
    let item = |(index, (embedding, _))| EmbeddingItem {
        object: "embedding",
        index,
        embedding: Vector(embedding, body.encoding_format),
    };
    let page = EmbeddingsPage {
        object: "list",
        data: embedded.into_iter().enumerate().map(item).collect(),
        model: space.model.clone(),
        usage: EmbeddingsUsage { prompt_tokens, total_tokens: prompt_tokens },
        truncated,
    };
    respond(page).await
}

/// Order documents by relevance to a query, in the shape of version 1 of Cohere's call.
#[utoipa::path(post, path = "/v1/rerank", request_body = RerankV1Body, responses(
    (status = 200, body = RerankPage), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody),
    (status = 429, body = ErrorBody), (status = 504, body = ErrorBody),
))]
pub async fn rerank_v1(
    State(app): State<App>,
    Extension(id): Extension<RequestId>,
    LargeJson(body): LargeJson<RerankV1Body>,
) -> Result<Response, Problem> {
    if let Some(fields) = body.rank_fields.filter(|fields| fields != &["text"]) {
        let message = format!("rank_fields is {fields:?}, expected [\"text\"]: put what counts into text");
        return Err(Problem::invalid("invalid_field", "rank_fields", message));
    }
    at_least_one("max_chunks_per_doc", body.max_chunks_per_doc)?;
    let texts = body.documents.into_iter().map(|document| document.0).collect();
    let ask = Ask { query: body.query, texts, field: "documents", tokens: None, timeout_ms: body.timeout_ms };
    let reply = Reply { version: "1", id: id.0, top_n: body.top_n, return_documents: body.return_documents };
    cohere(&app, body.model.as_deref(), ask, reply).await
}

/// Order documents by relevance to a query, in the shape of version 2 of Cohere's call.
#[utoipa::path(post, path = "/v2/rerank", request_body = RerankV2Body, responses(
    (status = 200, body = RerankPage), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody),
    (status = 429, body = ErrorBody), (status = 504, body = ErrorBody),
))]
pub async fn rerank_v2(
    State(app): State<App>,
    Extension(id): Extension<RequestId>,
    LargeJson(body): LargeJson<RerankV2Body>,
) -> Result<Response, Problem> {
    let tokens = at_least_one("max_tokens_per_doc", body.max_tokens_per_doc)?;
    let timeout_ms = body.timeout_ms;
    let ask = Ask { query: body.query, texts: body.documents, field: "documents", tokens, timeout_ms };
    let reply = Reply { version: "2", id: id.0, top_n: body.top_n, return_documents: false };
    cohere(&app, body.model.as_deref(), ask, reply).await
}

/// Order texts by relevance to a query, in the shape of Text Embeddings Inference.
#[utoipa::path(post, path = "/rerank", request_body = TeiRerankBody, responses(
    (status = 200, body = Vec<TeiRank>), (status = 400, body = ErrorBody),
    (status = 429, body = ErrorBody), (status = 504, body = ErrorBody),
))]
pub async fn rerank_tei(
    State(app): State<App>,
    LargeJson(body): LargeJson<TeiRerankBody>,
) -> Result<Response, Problem> {
    if let Some(side) = body.truncation_direction.filter(|side| !side.eq_ignore_ascii_case("right")) {
        let message =
            format!("truncation_direction is {side:?}, expected \"right\": texts are read from the start");
        return Err(Problem::invalid("invalid_field", "truncation_direction", message));
    }
    let timeout_ms = body.timeout_ms;
    let mut ask = Ask { query: body.query, texts: body.texts, field: "texts", tokens: None, timeout_ms };
    let ranked = rank(&app, &ask).await?;
    if body.truncate == Some(false) {
        let cut = |pair: &&Ranked| pair.read.query_dropped > 0 || pair.read.passage_dropped > 0;
        if let Some(pair) = ranked.iter().filter(cut).min_by_key(|pair| pair.index) {
            let place = if pair.read.query_dropped > 0 {
                "query".to_owned()
            } else {
                format!("texts[{}]", pair.index)
            };
            let message =
                format!("{place} is longer than the model reads: shorten it, or leave truncate out");
            return Err(Problem::invalid("text_too_long", &place, message));
        }
    }
    let item = |Ranked { index, logit, read }| TeiRank {
        index,
        score: if body.raw_scores { logit.get() } else { logit.sigmoid() },
        text: body.return_text.then(|| std::mem::take(&mut ask.texts[index])),
        truncated: read.query_dropped > 0 || read.passage_dropped > 0,
    };
    respond(ranked.into_iter().map(item).collect::<Vec<_>>()).await
}

/// What is to be ranked.
struct Ask {
    query: String,
    texts: Vec<String>,
    /// Name of `texts` in the request.
    field: &'static str,
    /// Most tokens of a text that are read.
    tokens: Option<NonZeroUsize>,
    timeout_ms: Option<u64>,
}

/// One text with its score.
struct Ranked {
    index: usize,
    logit: RerankLogit,
    read: PairRead,
}

/// Scores every text; best first, equal ones by index.
async fn rank(app: &App, ask: &Ask) -> Result<Vec<Ranked>, Problem> {
    let encoders = &app.stack.encoders;
    if ask.query.trim().is_empty() {
        return Err(empty_text("query"));
    }
    let place = |n: usize| format!("{}[{n}]", ask.field);
    check_texts(ask.field, &ask.texts, place)?;
    let run = Run::start(app, ask.texts.len(), ask.timeout_ms)?;
    let query: Arc<str> = ask.query.as_str().into();
    let scored = run.each(|n, job| encoders.score_counted(&query, &ask.texts[n], ask.tokens, job)).await;
    let scored = match scored {
        Ok(scored) => scored,
        Err(failed) => {
            // Which side has nothing visible only the model can tell.
            let is_empty =
                |error: &SchedulerError| matches!(error, SchedulerError::Model(ModelError::EmptyText));
            if is_empty(&failed.error) {
                let alone = encoders.score_counted(&query, "text", None, run.job()).await;
                if alone.is_err_and(|error| is_empty(&error)) {
                    return Err(empty_text("query"));
                }
            }
            let place = place(failed.item);
            return Err(run.problem(failed, &place));
        }
    };
    let ranked = scored.into_iter().enumerate();
    let mut ranked: Vec<Ranked> =
        ranked.map(|(index, (logit, read))| Ranked { index, logit, read }).collect();
    ranked.sort_by(|a, b| b.logit.get().total_cmp(&a.logit.get()).then(a.index.cmp(&b.index)));
    Ok(ranked)
}

/// How Cohere's call is answered.
struct Reply {
    version: &'static str,
    id: String,
    top_n: Option<usize>,
    return_documents: bool,
}

async fn cohere(app: &App, model: Option<&str>, mut ask: Ask, reply: Reply) -> Result<Response, Problem> {
    known(model, app.stack.encoders.reranker_name(), "reranks")?;
    let top_n = at_least_one("top_n", reply.top_n)?.map_or(usize::MAX, NonZeroUsize::get);
    let mut ranked = rank(app, &ask).await?;

    let input_tokens = ranked.iter().map(|pair| pair.read.tokens).sum();
    let mut truncated: Vec<usize> =
        ranked.iter().filter(|pair| pair.read.passage_dropped > 0).map(|pair| pair.index).collect();
    truncated.sort_unstable();
    let mut warnings = Vec::new();
    if ranked.iter().any(|pair| pair.read.query_dropped > 0) {
        warnings.push("the query is longer than the model reads: its end was left out".to_owned());
    }
    if !truncated.is_empty() {
        warnings.push(format!(
            "{} of {} documents are longer than was read, their ends were left out: meta.truncated has their indexes",
            truncated.len(),
            ranked.len()
        ));
    }
    let search_units = ranked.len().div_ceil(SEARCH_UNIT);
    ranked.truncate(top_n);
    let result = |Ranked { index, logit, .. }| RerankResult {
        index,
        relevance_score: logit.sigmoid(),
        document: reply
            .return_documents
            .then(|| RerankedText { text: std::mem::take(&mut ask.texts[index]) }),
    };
    let page = RerankPage {
        results: ranked.into_iter().map(result).collect(),
        id: reply.id,
        meta: RerankMeta {
            api_version: ApiVersion { version: reply.version },
            billed_units: BilledUnits { search_units },
            tokens: RerankTokens { input_tokens },
            warnings,
            truncated,
        },
    };
    respond(page).await
}

/// Refuses the name of a model that is not the one loaded.
fn known(asked: Option<&str>, loaded: &str, does: &str) -> Result<(), Problem> {
    let Some(asked) = asked.filter(|asked| *asked != loaded) else { return Ok(()) };
    let message = format!(
        "there is no model {asked:.100?}, this server {does} with {loaded:?}: give that name, or none"
    );
    Err(Problem::new(StatusCode::NOT_FOUND, "not_found", "model_not_found", message).at("model"))
}

/// Refuses no text at all, and texts of white space. Blank to the model are some others too: it tells itself.
fn check_texts(field: &str, texts: &[String], place: impl Fn(usize) -> String) -> Result<(), Problem> {
    if texts.is_empty() {
        return Err(Problem::invalid("no_texts", field, format!("{field} is empty: give at least one text")));
    }
    match texts.iter().position(|text| text.trim_start().is_empty()) {
        Some(n) => Err(empty_text(&place(n))),
        None => Ok(()),
    }
}

fn at_least_one(field: &str, value: Option<usize>) -> Result<Option<NonZeroUsize>, Problem> {
    let Some(value) = value else { return Ok(None) };
    NonZeroUsize::new(value).map(Some).ok_or_else(|| {
        Problem::invalid(
            "out_of_range",
            field,
            format!("{field} is 0, expected 1 or more: leave it out for all"),
        )
    })
}

/// JSON, written on a thread where it holds up nobody: thousands of vectors take a while.
async fn respond(value: impl Serialize + Send + 'static) -> Result<Response, Problem> {
    let json = tokio::task::spawn_blocking(move || serde_json::to_vec(&value))
        .await
        .map_err(|error| Problem::internal(&error))?
        .map_err(|error| Problem::internal(&error))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], json).into_response())
}
