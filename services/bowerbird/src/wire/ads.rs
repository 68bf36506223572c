//! Sponsored blocks and `POST /v1/decide`

use std::time::Duration;

use bowerbird_ads::{Neighbour, Slate};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// The sponsored part of a page: a channel of its own, never mixed with hits or sentences.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Sponsored {
    /// Names the auction; the same id and state give the same slate.
    pub auction_id: String,
    /// Blocks, best first: `{type, label, auction_id, ad_id, advertiser, paid_by, headline, text, display_url, why, click_url,
    /// impression_url, slot}`, and `wording: {origin, fact, model}` where a model wrote the text.
    #[schema(value_type = Vec<Object>)]
    pub blocks: Vec<Value>,
    /// Why nothing was looked for, when nothing was: `{reason, …}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub no_fill: Option<Value>,
    /// Stages that were skipped.
    pub degraded: Vec<String>,
    /// Why each campaign was served or not, with `explain`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub explain: Option<Value>,
    /// Time of the decision, in milliseconds.
    pub took_ms: f64,
}

impl Sponsored {
    /// A slate as JSON.
    pub fn new(slate: &Slate, took: Duration) -> Self {
        Self {
            auction_id: slate.auction_id.to_string(),
            blocks: slate.blocks.iter().map(value).collect(),
            no_fill: slate.no_fill.as_ref().map(value),
            degraded: slate.degraded.iter().map(|stage| stage.as_str().to_owned()).collect(),
            explain: slate.explain.as_ref().map(value),
            took_ms: (took.as_secs_f64() * 1e6).round() / 1e3,
        }
    }
}

/// A plain struct as JSON; such structs have no way to fail.
fn value(part: &impl Serialize) -> Value {
    serde_json::to_value(part).unwrap_or(Value::Null)
}

/// A request for sponsored blocks.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DecideBody {
    /// The query, or text of the page.
    pub q: String,
    /// Most blocks, 1 or 2.
    #[serde(default = "two")]
    pub slots: usize,
    /// ISO 639-1 code of the reader's language.
    #[serde(default)]
    pub lang: Option<String>,
    /// ISO 3166 code of the reader's country.
    #[serde(default)]
    pub country: Option<String>,
    /// What the reader looks at it with: `desktop`, `phone`, `tablet` or `tv`.
    #[serde(default)]
    pub device: Option<String>,
    /// Names the reader to frequency caps, at most 256 bytes; only a keyed hash of it is kept. Without it no ad with a
    /// cap is shown.
    #[serde(default)]
    pub user: Option<String>,
    /// What the page is about, ids of the IAB Content Taxonomy 3.1; worked out from `q` when left out.
    #[serde(default)]
    pub topics: Option<Vec<u16>>,
    /// Posts that the blocks would stand beside; the first eight are judged, and compared with advertisers' block lists.
    #[serde(default)]
    pub beside: Vec<Beside>,
    /// Ids of ads that stand on the page already, at most 16: neither they nor others of their advertisers are chosen.
    #[serde(default)]
    pub beside_ads: Vec<String>,
    /// Whether to decide without holding, keeping or billing anything.
    #[serde(default)]
    pub test: bool,
    /// Whether the page shows something no ad should stand beside.
    #[serde(default)]
    pub page_sensitive: bool,
    /// Whether to say why each campaign was served or not.
    #[serde(default)]
    pub explain: bool,
}

/// A post beside a block.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Beside {
    /// Account that wrote it.
    #[serde(default)]
    pub author: String,
    /// What it says.
    pub text: String,
}

impl Beside {
    /// As the ad engine takes it.
    pub fn neighbour(&self) -> Neighbour {
        Neighbour { author: self.author.clone(), text: self.text.clone() }
    }
}

impl DecideBody {
    /// A request about `q` of a reader of whom nothing is known.
    pub fn new(q: &str) -> Self {
        Self {
            q: q.to_owned(),
            slots: two(),
            lang: None,
            country: None,
            device: None,
            user: None,
            topics: None,
            beside: Vec::new(),
            beside_ads: Vec::new(),
            test: false,
            page_sensitive: false,
            explain: false,
        }
    }
}

fn two() -> usize {
    2
}
