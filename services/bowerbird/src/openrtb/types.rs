//! The parts of OpenRTB 2.6 that are read and written; what else a request holds is allowed and ignored.
//!
//! Source: <https://github.com/InteractiveAdvertisingBureau/openrtb2.x/blob/main/2.6.md>; native markup: OpenRTB Dynamic
//! Native Ads 1.2.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A bid request.
#[derive(Clone, Debug, Deserialize)]
pub struct BidRequest {
    /// Repeated in the answer.
    pub id: String,
    /// Places to fill.
    #[serde(default)]
    pub imp: Vec<Imp>,
    /// Where, on the web.
    #[serde(default)]
    pub site: Option<Place>,
    /// Where, in an app.
    #[serde(default)]
    pub app: Option<Place>,
    /// With what.
    #[serde(default)]
    pub device: Option<Device>,
    /// By whom.
    #[serde(default)]
    pub user: Option<User>,
    /// 1 first price, 2 second price, 500 and up of one's own.
    #[serde(default)]
    pub at: Option<i64>,
    /// Milliseconds until the answer must be there, its way included.
    #[serde(default)]
    pub tmax: Option<i64>,
    /// Currencies that are accepted.
    #[serde(default)]
    pub cur: Vec<String>,
    /// Categories that are not, in the taxonomy `cattax`.
    #[serde(default)]
    pub bcat: Vec<String>,
    /// Taxonomy of `bcat`.
    #[serde(default)]
    pub cattax: Option<i64>,
    /// Domains of advertisers that are not accepted.
    #[serde(default)]
    pub badv: Vec<String>,
    /// 1: never billed.
    #[serde(default)]
    pub test: i64,
    /// Rules that apply.
    #[serde(default)]
    pub regs: Option<Regs>,
}

/// A place to fill.
#[derive(Clone, Debug, Deserialize)]
pub struct Imp {
    /// Repeated in the bid.
    pub id: String,
    /// Native form; the only one that is bid on.
    #[serde(default)]
    pub native: Option<Native>,
    /// Least price of a thousand impressions.
    #[serde(default)]
    pub bidfloor: f64,
    /// Its currency.
    #[serde(default = "usd")]
    pub bidfloorcur: String,
}

fn usd() -> String {
    "USD".into()
}

/// Native form of a place.
#[derive(Clone, Debug, Deserialize)]
pub struct Native {
    /// The native request, JSON as text.
    pub request: String,
}

/// What a native place shows. Some senders wrap it in `native`.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct NativeRequest {
    /// Wrapped.
    #[serde(default)]
    pub native: Option<Box<NativeRequest>>,
    /// Parts.
    #[serde(default)]
    pub assets: Vec<NativeAsset>,
}

/// A part of a native place.
#[derive(Clone, Debug, Deserialize)]
pub struct NativeAsset {
    /// Repeated in the markup.
    pub id: i64,
    /// 1: the place cannot be filled without it.
    #[serde(default)]
    pub required: i64,
    /// A headline.
    #[serde(default)]
    pub title: Option<NativeTitle>,
    /// A text.
    #[serde(default)]
    pub data: Option<NativeData>,
}

/// A headline.
#[derive(Clone, Debug, Deserialize)]
pub struct NativeTitle {
    /// Most characters.
    pub len: usize,
}

/// A text.
#[derive(Clone, Debug, Deserialize)]
pub struct NativeData {
    /// 1 sponsored by, 2 description, 11 display URL, 12 call to action.
    pub r#type: i64,
    /// Most characters.
    #[serde(default)]
    pub len: Option<usize>,
}

/// A page or an app.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Place {
    /// What was searched for, where the page is a page of results.
    #[serde(default)]
    pub search: Option<String>,
    /// Words, separated by commas.
    #[serde(default)]
    pub keywords: Option<String>,
    /// What is read there.
    #[serde(default)]
    pub content: Option<Content>,
}

/// What is read.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Content {
    /// Its title.
    #[serde(default)]
    pub title: Option<String>,
    /// Words, separated by commas.
    #[serde(default)]
    pub keywords: Option<String>,
    /// ISO 639-1.
    #[serde(default)]
    pub language: Option<String>,
}

/// A device.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Device {
    /// 1 and 4 phone, 2 desktop, 3 television, 5 tablet.
    #[serde(default)]
    pub devicetype: Option<i64>,
    /// ISO 639-1.
    #[serde(default)]
    pub language: Option<String>,
    /// Where it is.
    #[serde(default)]
    pub geo: Option<Geo>,
}

/// A place on earth.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Geo {
    /// ISO 3166-1 alpha-3.
    #[serde(default)]
    pub country: Option<String>,
}

/// A reader.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct User {
    /// The sender's name for them; only a keyed hash of it is kept.
    #[serde(default)]
    pub id: Option<String>,
}

/// Rules.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Regs {
    /// 1: a child; nothing of the reader is used then.
    #[serde(default)]
    pub coppa: i64,
    /// Further ones.
    #[serde(default)]
    pub ext: Option<RegsExt>,
}

/// Further rules.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct RegsExt {
    /// What the Digital Services Act asks for.
    #[serde(default)]
    pub dsa: Option<DsaRequest>,
}

/// What must be told of an ad.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct DsaRequest {
    /// 0 no, 1 supported, 2 and 3 required.
    #[serde(default)]
    pub dsarequired: i64,
    /// 0 the publisher cannot show it, 1 can, 2 will.
    #[serde(default)]
    pub pubrender: i64,
}

/// An answer with bids, or with the reason for none.
#[derive(Clone, Debug, Serialize)]
pub struct BidResponse {
    /// Of the request.
    pub id: String,
    /// Bids by advertiser.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub seatbid: Vec<SeatBid>,
    /// The auction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bidid: Option<String>,
    /// Currency of the prices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cur: Option<String>,
    /// Why there is no bid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nbr: Option<u16>,
    /// The same in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ext: Option<Value>,
}

/// Bids of one advertiser.
#[derive(Clone, Debug, Serialize)]
pub struct SeatBid {
    /// Id of the advertiser.
    pub seat: String,
    /// Its bids.
    pub bid: Vec<Bid>,
}

/// A bid.
#[derive(Clone, Debug, Serialize)]
pub struct Bid {
    /// Auction and slot.
    pub id: String,
    /// The place.
    pub impid: String,
    /// Of a thousand impressions: for an ad that pays by click, the expected price.
    pub price: f64,
    /// Native markup, JSON as text.
    pub adm: String,
    /// Domain of the advertiser.
    pub adomain: Vec<String>,
    /// The ad and its version.
    pub crid: String,
    /// 4: native.
    pub mtype: u8,
    /// To be called when the impression is billed; absent in a test.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burl: Option<String>,
    /// Transparency.
    pub ext: BidExt,
}

/// Further parts of a bid.
#[derive(Clone, Debug, Serialize)]
pub struct BidExt {
    /// What the Digital Services Act asks for.
    pub dsa: Dsa,
}

/// On whose behalf, paid by whom.
#[derive(Clone, Debug, Serialize)]
pub struct Dsa {
    /// At most 100 characters.
    pub behalf: String,
    /// At most 100 characters.
    pub paid: String,
    /// 1: the ad itself shows it.
    pub adrender: u8,
}
