//! What advertisers and operators ask about ads: why, how much, what if. And what advertisers tell: conversions.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bowerbird_ads::{
    Audit, ConversionOutcome, Judged, OtherRules, ReportBy, ReportRow, Simulation, TRANSPARENCY_PAGE,
    TrafficRow,
};
use bowerbird_auction::Micros;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;
use uuid::Uuid;

use crate::http::App;
use crate::http::ads::engine;
use crate::http::json::QueryString;
use crate::http::problem::Problem;
use crate::wire::error::ErrorBody;

/// Days that a report spans at most.
const MAX_DAYS: i64 = 366;
/// Days that a report by the hour spans at most.
const MAX_DAYS_BY_HOUR: i64 = 31;

/// Which days, and of what.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct ReportQuery {
    /// `campaign`, `search_term`, `slot`, `ad`, or `hour`: then `key` is an hour such as `2026-01-31T09` (UTC), with
    /// what was seen, clicked and charged in it for slots given out from `from` to `to`, at most 31 days; earliest first.
    #[serde(default)]
    by: Option<String>,
    /// Id of one campaign; all when left out.
    #[serde(default)]
    campaign: Option<String>,
    /// First UTC day, `YYYY-MM-DD`; 30 days back when left out.
    #[serde(default)]
    from: Option<String>,
    /// Last UTC day; today when left out.
    #[serde(default)]
    to: Option<String>,
}

/// A report.
#[derive(Debug, Serialize)]
pub struct Report<T> {
    from: String,
    to: String,
    rows: Vec<T>,
}

impl ReportQuery {
    fn days(&self, most: i64) -> Result<(String, String), Problem> {
        let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
        let day = |name: &'static str, text: &Option<String>, default: Date| match text {
            None => Ok(default),
            Some(text) => text.parse::<Date>().map_err(|_| {
                let message = format!("{name} is {text:?}, expected a day such as 2026-01-31");
                Problem::invalid("invalid_day", name, message)
            }),
        };
        let to = day("to", &self.to, today)?;
        let from = day("from", &self.from, to.saturating_sub(Span::new().days(30)))?;
        let span = from.until(to).map_or(0, |span| i64::from(span.get_days()));
        if from > to || span > most {
            let message = format!(
                "from {from} to {to} is no span of at most {most} days: put the earlier day first, or ask for fewer days"
            );
            return Err(Problem::invalid("invalid_span", "from", message));
        }
        Ok((from.to_string(), to.to_string()))
    }
}

/// Impressions, clicks, cost, predicted clicks and conversions by campaign and day, search term, slot, ad or hour.
#[utoipa::path(get, path = "/v1/reports", params(ReportQuery),
    responses((status = 200, body = Object), (status = 400, body = ErrorBody)))]
pub async fn report(
    State(app): State<App>,
    QueryString(query): QueryString<ReportQuery>,
) -> Result<Json<Report<ReportRow>>, Problem> {
    let by = query.by.as_deref().unwrap_or("campaign");
    let by = ReportBy::parse(by).ok_or_else(|| {
        let known: Vec<&str> = ReportBy::ALL.iter().map(|by| by.as_str()).collect();
        Problem::invalid(
            "unknown_report",
            "by",
            format!("by is {by:?}, expected one of {}", known.join(", ")),
        )
    })?;
    let most = if by == ReportBy::Hour { MAX_DAYS_BY_HOUR } else { MAX_DAYS };
    let (from, to) = query.days(most)?;
    let rows = engine(&app)?.report(by, query.campaign.as_deref(), &from, &to).await?;
    Ok(Json(Report { from, to, rows }))
}

/// Events by what became of them, invalid ones with their reason: gross and net at once.
#[utoipa::path(get, path = "/v1/reports/traffic", params(ReportQuery),
    responses((status = 200, body = Object), (status = 400, body = ErrorBody)))]
pub async fn traffic(
    State(app): State<App>,
    QueryString(query): QueryString<ReportQuery>,
) -> Result<Json<Report<TrafficRow>>, Problem> {
    let (from, to) = query.days(MAX_DAYS)?;
    let rows = engine(&app)?.traffic_report(&from, &to).await?;
    Ok(Json(Report { from, to, rows }))
}

/// Where a page of ads begins.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct AfterQuery {
    /// Id of the last ad of the page before, as its `link` header has it.
    #[serde(default)]
    after: String,
}

/// Every ad that was shown, for the public and without a key: who is behind it, what it says, when, to how many and whom
/// it was meant for. One JSON object a line, at most 200; the header `link` leads to the next page.
#[utoipa::path(get, path = "/transparency/ads", params(AfterQuery),
    responses((status = 200, body = String, content_type = "application/x-ndjson"), (status = 404, body = ErrorBody)))]
pub async fn transparency(
    State(app): State<App>,
    QueryString(query): QueryString<AfterQuery>,
) -> Result<Response, Problem> {
    let ads = engine(&app)?.shown_ads(&query.after).await?;
    let mut lines = String::new();
    for ad in &ads {
        lines += &serde_json::to_string(ad).map_err(|error| Problem::internal(&error))?;
        lines.push('\n');
    }
    let mut response = ([(header::CONTENT_TYPE, "application/x-ndjson")], lines).into_response();
    if let Some(last) = ads.last().filter(|_| ads.len() == TRANSPARENCY_PAGE) {
        let after: String = url::form_urlencoded::byte_serialize(last.ad.as_bytes()).collect();
        let link = format!("</transparency/ads?after={after}>; rel=\"next\"");
        if let Ok(link) = HeaderValue::from_str(&link) {
            response.headers_mut().insert(header::LINK, link);
        }
    }
    Ok(response)
}

/// A reason and how often it was one.
#[derive(Debug, Serialize)]
pub struct NoFillRow {
    reason: String,
    decisions: i64,
}

/// Why decisions ended without an ad.
#[utoipa::path(get, path = "/v1/reports/no_fill", params(ReportQuery),
    responses((status = 200, body = Object), (status = 400, body = ErrorBody)))]
pub async fn no_fill(
    State(app): State<App>,
    QueryString(query): QueryString<ReportQuery>,
) -> Result<Json<Report<NoFillRow>>, Problem> {
    let (from, to) = query.days(MAX_DAYS)?;
    let rows = engine(&app)?.no_fill(&from, &to).await?;
    let rows = rows.into_iter().map(|(reason, decisions)| NoFillRow { reason, decisions }).collect();
    Ok(Json(Report { from, to, rows }))
}

/// Who asks for an explanation.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct ExplainQuery {
    /// Id of an advertiser, to see what it may see: its own ads whole, and of others how many there were.
    #[serde(default)]
    advertiser: Option<String>,
}

/// Why this ad and not that one: the auction with everything that took part, run again from the log.
#[utoipa::path(get, path = "/v1/explain/{auction_id}", params(("auction_id" = String, Path), ExplainQuery),
    responses((status = 200, body = Object), (status = 404, body = ErrorBody)))]
pub async fn explain(
    State(app): State<App>,
    Path(id): Path<String>,
    QueryString(query): QueryString<ExplainQuery>,
) -> Result<Response, Problem> {
    let parsed: Uuid = id.parse().map_err(|_| {
        Problem::invalid("invalid_auction_id", "auction_id", format!("{id:?} is no auction id"))
    })?;
    let ads = engine(&app)?;
    let found = match &query.advertiser {
        None => ads.decision(parsed).await?.map(|decision| Json(decision).into_response()),
        Some(advertiser) => {
            ads.decision_for(parsed, advertiser).await?.map(|decision| Json(decision).into_response())
        }
    };
    found.ok_or_else(|| {
        let whose = query.advertiser.map_or_else(String::new, |id| format!(", or there is no advertiser {id}"));
        let message = format!(
            "no decision of auction {id} is kept: nobody took part, or it is older than ads.engine.log.keep{whose}"
        );
        Problem::new(StatusCode::NOT_FOUND, "not_found", "unknown_auction", message)
    })
}

/// How far back a simulation looks.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct SimulateQuery {
    /// Days, 1 to 30.
    #[serde(default)]
    days: Option<i64>,
}

/// What other bids and budgets would have brought the campaign, from the auctions that were held.
#[utoipa::path(get, path = "/v1/campaigns/{id}/simulation", params(("id" = String, Path), SimulateQuery),
    responses((status = 200, body = Object), (status = 404, body = ErrorBody)))]
pub async fn simulate(
    State(app): State<App>,
    Path(id): Path<String>,
    QueryString(query): QueryString<SimulateQuery>,
) -> Result<Json<Simulation>, Problem> {
    let found = engine(&app)?.simulate(&id, since_days(query.days, 7)?).await?;
    found.map(Json).ok_or_else(|| {
        Problem::new(
            StatusCode::NOT_FOUND,
            "not_found",
            "unknown_campaign",
            format!("there is no campaign {id}"),
        )
    })
}

/// Which rules to judge, by how much of the log.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct JudgeQuery {
    /// Exponent of the noise, 0 to 8; as it was when left out, here and below.
    #[serde(default)]
    temperature: Option<f64>,
    /// Weight of showing no ad, in micros an impression.
    #[serde(default)]
    no_ad_micros: Option<i64>,
    /// Least price of a click, not under the one that was in force.
    #[serde(default)]
    reserve_micros: Option<i64>,
    /// Days back, 1 to 30; 30 when left out.
    #[serde(default)]
    days: Option<i64>,
}

/// What other rules for the places below answers would have brought in clicks and in value to advertisers, estimated from
/// the logged draws (IPS, SNIPS, DR with 95 % intervals). `refused` says why the log is no basis for a verdict.
#[utoipa::path(get, path = "/v1/ope", params(JudgeQuery),
    responses((status = 200, body = Object), (status = 400, body = ErrorBody)))]
pub async fn judge(
    State(app): State<App>,
    QueryString(query): QueryString<JudgeQuery>,
) -> Result<Json<Judged>, Problem> {
    let other = OtherRules {
        temperature: query.temperature,
        no_ad_micros: query.no_ad_micros.map(Micros),
        reserve_micros: query.reserve_micros.map(Micros),
    };
    let (since, now) = (since_days(query.days, 30)?, Timestamp::now());
    Ok(Json(engine(&app)?.judge(other, since, now).await?))
}

/// The moment so many days back, 1 to 30, in Unix milliseconds.
fn since_days(days: Option<i64>, usual: i64) -> Result<i64, Problem> {
    let days = days.unwrap_or(usual);
    if !(1..=30).contains(&days) {
        let message = format!("days is {days}, expected 1 to 30");
        return Err(Problem::invalid("days_out_of_range", "days", message));
    }
    Ok(Timestamp::now().as_millisecond() - days * 86_400_000)
}

/// Replay the events and compare the result with the books.
#[utoipa::path(get, path = "/v1/ledger/audit", responses((status = 200, body = Object)))]
pub async fn audit(State(app): State<App>) -> Result<Json<Audit>, Problem> {
    Ok(Json(engine(&app)?.audit().await?))
}

/// Take what an advertiser's server says happened after a click: signed, and counted once an order.
#[utoipa::path(post, path = "/v1/conversions", request_body = Object,
    params(("x-bowerbird-signature" = String, Header,
        description = "hexadecimal HMAC-SHA256 of the body with the advertiser's postback key")),
    responses((status = 200, body = Object), (status = 400, body = ErrorBody)))]
pub async fn convert(
    State(app): State<App>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<ConversionOutcome>, Problem> {
    let signature =
        headers.get("x-bowerbird-signature").and_then(|value| value.to_str().ok()).unwrap_or_default();
    Ok(Json(engine(&app)?.convert(&body, signature, Timestamp::now()).await?))
}

/// A key, told once.
#[derive(Debug, Serialize)]
pub struct PostbackKey {
    postback_key: String,
}

/// Make the key with which an advertiser's server signs conversions. It is told this once; the one before is void.
#[utoipa::path(post, path = "/v1/advertisers/{id}/postback_key", params(("id" = String, Path)),
    responses((status = 200, body = Object), (status = 404, body = ErrorBody)))]
pub async fn postback_key(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Json<PostbackKey>, Problem> {
    let key = engine(&app)?.new_postback_key(&id).await?;
    key.map(|postback_key| Json(PostbackKey { postback_key })).ok_or_else(|| {
        Problem::new(
            StatusCode::NOT_FOUND,
            "not_found",
            "unknown_advertiser",
            format!("there is no advertiser {id}"),
        )
    })
}
