//! The HTTP face: routes, limits, authorization, request ids.

pub mod ad_reports;
pub mod ads;
pub mod answer;
pub mod catalog;
pub mod chat;
pub mod ingest;
pub mod json;
pub mod models;
pub mod openapi;
pub mod openrtb;
pub mod ops;
pub mod posts;
pub mod problem;
pub mod reindex;
pub mod search;
pub mod snapshots;
pub mod streams;
pub mod suggest;
pub mod web;

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use metrics_exporter_prometheus::PrometheusHandle;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::set_header::SetResponseHeaderLayer;
use uuid::Uuid;

use crate::http::problem::Problem;
use crate::http::streams::Streams;
use crate::stack::Stack;

/// What every handler may use.
#[derive(Clone)]
pub struct App {
    /// The product.
    pub stack: Stack,
    metrics: PrometheusHandle,
    places: Arc<Semaphore>,
    streams: Streams,
    /// For texts of others in the queue of the models.
    model_places: Arc<Semaphore>,
}

/// Names one call; in every response as `x-request-id`, in bodies and in the log.
#[derive(Clone, Debug)]
pub struct RequestId(pub String);

/// All routes over `stack`.
pub fn router(stack: Stack, metrics: PrometheusHandle) -> Router {
    let server = stack.config.server.clone();
    let model_places = models::places(&stack.encoders);
    let places = Arc::new(Semaphore::new(server.max_in_flight));
    let streams = Streams::new(&stack.config.answer);
    let app = App { stack, metrics, places, streams, model_places };
    let limit = |size: bytesize::ByteSize| {
        DefaultBodyLimit::max(usize::try_from(size.as_u64()).unwrap_or(usize::MAX))
    };

    let api = Router::new()
        .route("/v1/search", post(search::search))
        .route("/v1/suggest", get(suggest::suggest))
        .route("/v1/suggest/queries", delete(suggest::forget))
        .route("/v1/answer", post(answer::answer))
        .route("/v1/answer/{stream}", get(answer::resume))
        .route("/v1/chat/completions", post(chat::completions))
        .route("/v1/decide", post(ads::decide))
        .route("/v1/explain/{auction_id}", get(ad_reports::explain))
        .route("/v1/reports", get(ad_reports::report))
        .route("/v1/reports/traffic", get(ad_reports::traffic))
        .route("/v1/reports/no_fill", get(ad_reports::no_fill))
        .route("/v1/campaigns/{id}/simulation", get(ad_reports::simulate))
        .route("/v1/ope", get(ad_reports::judge))
        .route("/v1/ledger/audit", get(ad_reports::audit))
        .route("/openrtb2/auction", post(openrtb::auction))
        .route("/v1/advertisers", catalog::advertisers::all())
        .route("/v1/advertisers/{id}", catalog::advertisers::one())
        .route("/v1/advertisers/{id}/postback_key", post(ad_reports::postback_key))
        .route("/v1/campaigns", catalog::campaigns::all())
        .route("/v1/campaigns/{id}", catalog::campaigns::one())
        .route("/v1/ad_groups", catalog::ad_groups::all())
        .route("/v1/ad_groups/{id}", catalog::ad_groups::one())
        .route("/v1/ads", catalog::ads::all())
        .route("/v1/ads/{id}", catalog::ads::one())
        .route("/v1/ads/{id}/review", post(catalog::review))
        .route("/v1/posts/{id}", get(posts::get).patch(posts::patch).delete(posts::delete))
        .route("/v1/reindex", get(reindex::list).post(reindex::begin))
        .route("/v1/reindex/rollback", post(reindex::rollback))
        .route("/v1/reindex/prune", post(reindex::prune))
        .route("/v1/tasks/{id}", get(reindex::task).delete(reindex::cancel))
        .route("/v1/tasks/{id}/{action}", post(reindex::act))
        .route("/v1/snapshots", get(snapshots::list).post(snapshots::take))
        .route("/v1/snapshots/{name}", delete(snapshots::delete))
        .route("/v1/ingest/status", get(ingest::status))
        .layer(limit(server.max_json))
        .merge(Router::new().route("/v1/posts", post(posts::write)).layer(limit(server.max_posts)))
        .merge(
            Router::new()
                .route("/v1/embeddings", post(models::embeddings))
                .route("/v1/rerank", post(models::rerank_v1))
                .route("/v2/rerank", post(models::rerank_v2))
                .route("/rerank", post(models::rerank_tei))
                .layer(limit(server.max_models)),
        )
        .layer(from_fn_with_state(app.clone(), admit))
        .layer(from_fn_with_state(app.clone(), authorize));

    Router::new()
        .merge(api)
        .route("/e/i/{token}", get(ads::impression).post(ads::impression))
        .route("/e/c/{token}", get(ads::click))
        // Signed by the advertiser, so that it needs no key of ours.
        .merge(
            Router::new().route("/v1/conversions", post(ad_reports::convert)).layer(limit(server.max_json)),
        )
        .route("/transparency/ads", get(ad_reports::transparency))
        .route("/healthz", get(ops::healthz))
        .route("/readyz", get(ops::readyz))
        .route("/metrics", get(ops::metrics))
        .route("/openapi.json", get(openapi::openapi))
        .route("/", get(web::index))
        .route("/{file}", get(web::file))
        .fallback(unknown_route)
        .method_not_allowed_fallback(unknown_method)
        .layer(SetResponseHeaderLayer::if_not_present(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ))
        .layer(CatchPanicLayer::custom(|_| {
            let message = "something failed on our side; the log has the cause under this request_id";
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "internal", message).into_response()
        }))
        .layer(from_fn(name_request))
        .with_state(app)
}

/// Gives the call its id, measures it, and puts the id into error bodies.
async fn name_request(mut request: Request, next: Next) -> Response {
    let id = Uuid::now_v7().to_string();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "other".to_owned(), |path| path.as_str().to_owned());
    request.extensions_mut().insert(RequestId(id.clone()));
    let begun = Instant::now();
    let mut response = next.run(request).await;
    if let Some(problem) = response.extensions().get::<Arc<Problem>>() {
        let retry = response.headers().get(header::RETRY_AFTER).cloned();
        tracing::info!(request_id = id, status = problem.status().as_u16(), error = %problem, "refused");
        response = (problem.status(), axum::Json(problem.body(&id))).into_response();
        if let Some(retry) = retry {
            response.headers_mut().insert(header::RETRY_AFTER, retry);
        }
    }
    let status = response.status().as_u16().to_string();
    metrics::histogram!("bowerbird_http_seconds", "route" => route, "status" => status)
        .record(begun.elapsed().as_secs_f64());
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert("x-request-id", value);
    }
    response
}

/// Lets a bounded number of calls in; the place is given back when the response body has been sent.
async fn admit(State(app): State<App>, request: Request, next: Next) -> Response {
    let Ok(place) = app.places.clone().try_acquire_owned() else {
        return Problem::overloaded("too many calls at once: try again in a moment").into_response();
    };
    let (parts, body) = next.run(request).await.into_parts();
    let stream = futures::StreamExt::map(body.into_data_stream(), move |chunk| {
        let _held_until_the_end = &place;
        chunk
    });
    Response::from_parts(parts, axum::body::Body::from_stream(stream))
}

/// Checks the key when any is configured. Digests are compared, so that time tells nothing of a key.
async fn authorize(State(app): State<App>, request: Request, next: Next) -> Response {
    let keys = &app.stack.config.server.api_keys;
    if !keys.is_empty() {
        let given = request
            .headers()
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "));
        let good = given.is_some_and(|given| {
            let given = Sha256::digest(given.as_bytes());
            keys.iter().any(|key| Sha256::digest(key.as_bytes()) == given)
        });
        if !good {
            let message = "give a key of server.api_keys as `Authorization: Bearer KEY`";
            return Problem::new(StatusCode::UNAUTHORIZED, "auth", "unauthorized", message).into_response();
        }
    }
    next.run(request).await
}

async fn unknown_route(request: Request) -> Problem {
    let message = format!("there is no {}: see /openapi.json", request.uri().path());
    Problem::new(StatusCode::NOT_FOUND, "not_found", "unknown_route", message)
}

async fn unknown_method(request: Request) -> Problem {
    let message = format!("{} does not take {}: see /openapi.json", request.uri().path(), request.method());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_request", "method_not_allowed", message)
}
