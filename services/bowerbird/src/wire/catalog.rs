//! Bookings: `/v1/advertisers`, `/v1/campaigns`, `/v1/ad_groups`, `/v1/ads`
//!
//! The bodies here describe the interface; they are read field by field by the ad engine, which reports every problem
//! at once instead of the first.

use bowerbird_ads::Booked;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// At most so many impressions of it to one person within so many hours.
#[derive(ToSchema)]
pub struct FrequencyCap {
    /// 1 to 255.
    pub impressions: u8,
    /// 1 to 720.
    pub hours: u16,
}

/// Who books.
#[derive(ToSchema)]
pub struct Advertiser {
    /// 1 to 64 letters, digits, dots, dashes or underscores; cannot be changed.
    pub id: String,
    /// At most 100 characters.
    pub name: String,
    /// Who pays; the name when absent.
    pub paid_by: Option<String>,
    /// `enabled` (the default) or `paused`.
    pub status: Option<String>,
    /// Id of the IAB Ad Product Taxonomy 2.0.
    pub category: Option<u32>,
    /// Most that is ever charged to the account, in micros; no limit when absent.
    pub balance_micros: Option<i64>,
    /// No ad beside a post that holds one of them; at most 1000.
    pub blocked_terms: Option<Vec<String>>,
    /// No ad beside a post by one of them; at most 1000.
    pub blocked_authors: Option<Vec<String>>,
    /// For all ads of the account together.
    pub frequency_cap: Option<FrequencyCap>,
}

/// A budget and the time in which it may be spent.
#[derive(ToSchema)]
pub struct Campaign {
    /// 1 to 64 letters, digits, dots, dashes or underscores; cannot be changed.
    pub id: String,
    /// Id of the advertiser; cannot be changed.
    pub advertiser: String,
    /// At most 100 characters.
    pub name: String,
    /// Most that is charged in a UTC day, in micros (millionths of the currency unit).
    pub daily_budget_micros: i64,
    /// Most that is ever charged, at least the daily budget; no limit when absent.
    pub lifetime_budget_micros: Option<i64>,
    /// ISO 4217 code; that of the server.
    pub currency: String,
    /// First day, `YYYY-MM-DD`, UTC.
    pub starts: Option<String>,
    /// Last day.
    pub ends: Option<String>,
    /// `enabled` (the default) or `paused`.
    pub status: Option<String>,
    /// `manual_cpc` (the default), `cpm`, `maximise_clicks` or `target_cpa`.
    pub bidding: Option<String>,
    /// Cost of a conversion on average; with `target_cpa` only.
    pub target_cpa_micros: Option<i64>,
    /// `even` (the default) or `asap`.
    pub pacing: Option<String>,
    /// For all ads of the campaign together.
    pub frequency_cap: Option<FrequencyCap>,
}

/// A keyword of an ad group.
#[derive(ToSchema)]
pub struct Keyword {
    /// At most 80 characters and 10 words.
    pub text: String,
    /// `exact`, `phrase` or `broad`.
    pub match_type: String,
    /// Whether it keeps the ads away instead.
    pub negative: Option<bool>,
}

/// A bid and whom it is for. An empty list does not limit.
#[derive(ToSchema)]
pub struct AdGroup {
    /// 1 to 64 letters, digits, dots, dashes or underscores; cannot be changed.
    pub id: String,
    /// Id of the campaign; cannot be changed.
    pub campaign: String,
    /// At most 100 characters.
    pub name: Option<String>,
    /// `enabled` (the default) or `paused`.
    pub status: Option<String>,
    /// Most for a click, or for a thousand impressions with bidding `cpm`, in micros.
    pub bid_micros: i64,
    /// Whether the ads are also shown where no keyword matches but the meaning does.
    pub semantic: Option<bool>,
    /// Least cosine for that, -1 to 1; as configured when absent.
    pub semantic_threshold: Option<f64>,
    /// ISO 639-1 codes.
    pub languages: Option<Vec<String>>,
    /// ISO 3166-1 alpha-2 codes.
    pub countries: Option<Vec<String>>,
    /// Countries that are left out.
    pub excluded_countries: Option<Vec<String>>,
    /// `desktop`, `phone`, `tablet`, `tv`.
    pub devices: Option<Vec<String>>,
    /// Hours of the week from Monday 0:00 UTC, 0 to 167.
    pub hours: Option<Vec<u8>>,
    /// Ids of the IAB Content Taxonomy 3.1, tiers 1 and 2.
    pub topics: Option<Vec<u16>>,
    /// Topics beside which it must not stand.
    pub excluded_topics: Option<Vec<u16>>,
    /// At most 1000; a list in a PATCH replaces the list.
    pub keywords: Option<Vec<Keyword>>,
}

/// A picture or logo of an ad.
#[derive(ToSchema)]
pub struct Asset {
    /// `image` or `logo`.
    pub kind: String,
    /// https.
    pub url: String,
    /// What it shows, at most 150 characters.
    pub alt: String,
}

/// What is shown. New words are a new version, which the policy reviews.
#[derive(ToSchema)]
pub struct Ad {
    /// 1 to 64 letters, digits, dots, dashes or underscores; cannot be changed.
    pub id: String,
    /// Id of the ad group; cannot be changed.
    pub ad_group: String,
    /// `enabled` (the default) or `paused`.
    pub status: Option<String>,
    /// At most 40 characters.
    pub headline: String,
    /// At most 150 characters.
    pub text: String,
    /// https, with a host name.
    pub landing_url: String,
    /// Begins with the host of the landing page; that host when absent.
    pub display_url: Option<String>,
    /// At most 20 sentences of at most 200 characters that the advertiser vouches for.
    pub facts: Option<Vec<String>>,
    /// At most 8.
    pub assets: Option<Vec<Asset>>,
    /// For this ad.
    pub frequency_cap: Option<FrequencyCap>,
}

/// Bookings of a level, in the order of ids.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct BookedPage {
    /// The bookings, as `GET` of each answers.
    #[schema(value_type = Vec<Object>)]
    pub items: Vec<Value>,
    /// Give it as `cursor` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
    /// Names this call in the log.
    pub request_id: String,
}

impl BookedPage {
    /// The bookings of a page.
    pub fn new(items: Vec<Booked>, next_cursor: Option<String>, request_id: String) -> Self {
        Self { items: items.into_iter().map(|booked| booked.json).collect(), next_cursor, request_id }
    }
}

/// An operator's decision about an ad.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReviewBody {
    /// `approved`, `under_review` or `disapproved`.
    pub state: String,
    /// Who decides.
    pub reviewer: String,
    /// For the advertiser; with `disapproved` it must be there.
    #[serde(default)]
    pub reason: String,
    /// Subject of the policy.
    #[serde(default)]
    pub topic: String,
    /// Version that was looked at: if the text has changed since, the decision is refused.
    #[serde(default)]
    pub version: Option<i64>,
}
