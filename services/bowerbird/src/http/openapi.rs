//! `/openapi.json`, generated from the handlers and wire types.

use axum::Json;
use utoipa::OpenApi;

use crate::http::{
    ad_reports, ads, answer, catalog, chat, ingest, models, openrtb, ops, posts, reindex, search, snapshots,
    suggest,
};

/// The interface.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Bowerbird",
        description = "Search that answers, and ads that pay for it.",
        license(name = "Apache-2.0")
    ),
    paths(
        search::search,
        suggest::suggest,
        suggest::forget,
        answer::answer,
        answer::resume,
        chat::completions,
        posts::write,
        posts::get,
        posts::patch,
        posts::delete,
        reindex::begin,
        reindex::list,
        reindex::rollback,
        reindex::prune,
        reindex::task,
        reindex::act,
        reindex::cancel,
        snapshots::take,
        snapshots::list,
        snapshots::delete,
        ingest::status,
        models::embeddings,
        models::rerank_v1,
        models::rerank_v2,
        models::rerank_tei,
        ads::decide,
        catalog::advertisers::create,
        catalog::advertisers::list,
        catalog::advertisers::read,
        catalog::advertisers::change,
        catalog::advertisers::remove,
        catalog::campaigns::create,
        catalog::campaigns::list,
        catalog::campaigns::read,
        catalog::campaigns::change,
        catalog::campaigns::remove,
        catalog::ad_groups::create,
        catalog::ad_groups::list,
        catalog::ad_groups::read,
        catalog::ad_groups::change,
        catalog::ad_groups::remove,
        catalog::ads::create,
        catalog::ads::list,
        catalog::ads::read,
        catalog::ads::change,
        catalog::ads::remove,
        catalog::review,
        ads::impression,
        ads::click,
        ad_reports::explain,
        ad_reports::report,
        ad_reports::traffic,
        ad_reports::no_fill,
        ad_reports::judge,
        ad_reports::simulate,
        ad_reports::audit,
        ad_reports::transparency,
        ad_reports::convert,
        ad_reports::postback_key,
        openrtb::auction,
        ops::healthz,
        ops::readyz,
        ops::metrics,
    )
)]
pub struct Interface;

/// The interface as OpenAPI 3.1.
pub async fn openapi() -> Json<utoipa::openapi::OpenApi> {
    Json(Interface::openapi())
}
