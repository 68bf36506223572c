//! OpenRTB 2.6: a bid request to an ad request, and a slate to a bid response.
//!
//! Only native places are bid on: headline, text, "sponsored by", display address. Every bid names on whose behalf it is
//! shown and who paid. Prices are for a thousand impressions; of an ad that pays by click, that is the expected price.
//! The auction behind them is VCG over our own advertisers, which OpenRTB has no number for.

pub mod types;

use std::time::{Duration, Instant};

use bowerbird_ads::{AdRequest, Device, NoFill, Slate, SponsoredBlock, Texts};
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use self::types::{Bid, BidExt, BidRequest, BidResponse, Dsa, Imp, NativeRequest, SeatBid};

/// Places of one request that are looked at.
const MAX_IMPS: usize = 64;
/// Longest text that ads are matched with, in characters.
const MAX_TEXT: usize = 2000;
/// What the way back takes of `tmax`.
const MARGIN: Duration = Duration::from_millis(20);
/// Time when the request sets none: what its specification gives as an example.
const DEFAULT_TMAX: Duration = Duration::from_millis(120);
/// Longest time that is used, whatever is offered.
const MAX_TMAX: Duration = Duration::from_secs(2);

/// Why there is no bid; numbers of the AdCOM list, from 500 on our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoBid {
    /// 1: our fault.
    Technical,
    /// 2: the request cannot be used.
    Invalid,
    /// 15: not enough time.
    Time,
    /// 500: no ad beside this text.
    Sensitive,
    /// 501: nothing fits, or nothing over the floor.
    NoMatch,
    /// 502: no place of a form that is bid on.
    Form,
    /// 503: another currency.
    Currency,
}

impl NoBid {
    fn code(self) -> u16 {
        match self {
            Self::Technical => 1,
            Self::Invalid => 2,
            Self::Time => 15,
            Self::Sensitive => 500,
            Self::NoMatch => 501,
            Self::Form => 502,
            Self::Currency => 503,
        }
    }
}

/// An answer without a bid.
pub fn no_bid(id: &str, why: NoBid, message: impl Into<String>) -> BidResponse {
    BidResponse {
        id: id.to_owned(),
        seatbid: Vec::new(),
        bidid: None,
        cur: None,
        nbr: Some(why.code()),
        ext: Some(json!({"message": message.into()})),
    }
}

/// A place that can be filled.
pub struct Opening<'r> {
    imp: &'r Imp,
    form: NativeRequest,
}

/// The places of `request` that can be bid on, or why there are none.
pub fn openings<'r>(request: &'r BidRequest, currency: &str) -> Result<Vec<Opening<'r>>, (NoBid, String)> {
    if request.imp.is_empty() || request.imp.len() > MAX_IMPS {
        let message = format!("imp has {} entries, expected 1 to {MAX_IMPS}", request.imp.len());
        return Err((NoBid::Invalid, message));
    }
    if !request.cur.is_empty() && !request.cur.iter().any(|cur| cur == currency) {
        return Err((NoBid::Currency, format!("cur is {:?}, bids are in {currency}", request.cur)));
    }
    let mut openings = Vec::new();
    let mut why = String::from("no imp has native: only native places are bid on");
    for imp in &request.imp {
        let Some(native) = &imp.native else { continue };
        if !imp.bidfloor.is_finite() || imp.bidfloor < 0.0 {
            return Err((NoBid::Invalid, format!("imp {}: bidfloor is {}", imp.id, imp.bidfloor)));
        }
        if imp.bidfloor > 0.0 && imp.bidfloorcur != currency {
            why = format!("imp {}: bidfloorcur is {}, bids are in {currency}", imp.id, imp.bidfloorcur);
            continue;
        }
        let form: NativeRequest = match serde_json::from_str(&native.request) {
            Ok(form) => form,
            Err(error) => return Err((NoBid::Invalid, format!("imp {}: native.request: {error}", imp.id))),
        };
        let form = form.native.map_or_else(
            || NativeRequest { native: None, assets: form.assets.clone() },
            |inner| NativeRequest { native: None, assets: inner.assets.clone() },
        );
        let unknown = form.assets.iter().find(|asset| {
            let known = asset.title.is_some()
                || asset.data.as_ref().is_some_and(|data| matches!(data.r#type, 1 | 2 | 11));
            asset.required == 1 && !known
        });
        if let Some(asset) = unknown {
            why = format!(
                "imp {}: asset {} is required and is no title, sponsor, text or display URL",
                imp.id, asset.id
            );
            continue;
        }
        openings.push(Opening { imp, form });
    }
    if openings.is_empty() { Err((NoBid::Form, why)) } else { Ok(openings) }
}

/// Time for the decision, or the lack of it.
pub fn deadline(request: &BidRequest, begun: Instant) -> Result<Instant, (NoBid, String)> {
    let tmax = match request.tmax {
        None | Some(0) => DEFAULT_TMAX,
        Some(ms) => u64::try_from(ms)
            .map(Duration::from_millis)
            .map_err(|_| (NoBid::Invalid, format!("tmax is {ms}, expected milliseconds")))?,
    };
    match tmax.min(MAX_TMAX).checked_sub(MARGIN).filter(|left| *left > Duration::from_millis(5)) {
        Some(left) => Ok(begun + left),
        None => Err((NoBid::Time, format!("tmax of {tmax:?} leaves no time"))),
    }
}

/// What ads are asked for.
pub fn ad_request(request: &BidRequest, slots: usize, now: Timestamp, deadline: Instant) -> AdRequest {
    let place = request.site.as_ref().or(request.app.as_ref());
    let content = place.and_then(|place| place.content.as_ref());
    let parts = [
        place.and_then(|place| place.search.clone()),
        content.and_then(|content| content.title.clone()),
        content.and_then(|content| content.keywords.clone()),
        place.and_then(|place| place.keywords.clone()),
    ];
    // A page of results is what was searched for; its keywords would only blur that.
    let take = if parts[0].is_some() { 1 } else { parts.len() };
    let text: Vec<String> = parts.into_iter().take(take).flatten().collect();
    let device = request.device.as_ref();
    let country = device.and_then(|device| device.geo.as_ref()).and_then(|geo| geo.country.as_deref());
    let country = country.and_then(|code| match code.len() {
        3 => rust_iso3166::from_alpha3(&code.to_ascii_uppercase()).map(|found| found.alpha2.to_owned()),
        _ => None,
    });
    let child = request.regs.as_ref().is_some_and(|regs| regs.coppa == 1);
    let user = request.user.as_ref().and_then(|user| user.id.clone());
    AdRequest {
        text: text.join(" ").chars().take(MAX_TEXT).collect(),
        lang: content
            .and_then(|content| content.language.clone())
            .or_else(|| device.and_then(|device| device.language.clone())),
        country,
        device: device.and_then(|device| device.devicetype).and_then(|kind| match kind {
            1 | 4 => Some(Device::Phone),
            2 => Some(Device::Desktop),
            3 | 7 => Some(Device::Tv),
            5 => Some(Device::Tablet),
            _ => None,
        }),
        user: user.filter(|id| !child && !id.is_empty() && id.len() <= 256),
        slots,
        blocked_domains: request.badv.iter().map(|domain| domain.to_ascii_lowercase()).collect(),
        test: request.test == 1,
        // Markets look at a creative once and know it by its id.
        texts: Texts::Own,
        deadline: Some(deadline),
        ..AdRequest::new("", now, Uuid::now_v7())
    }
}

/// The bids of `slate`, its blocks to the openings in their order; links are absolute under `base`.
pub fn response(
    request: &BidRequest,
    openings: &[Opening<'_>],
    slate: &Slate,
    currency: &str,
    base: &str,
) -> BidResponse {
    if let Some(reason) = &slate.no_fill {
        let why = if matches!(reason, NoFill::NoSlot | NoFill::NoAdDrawn) {
            NoBid::NoMatch
        } else {
            NoBid::Sensitive
        };
        return no_bid(&request.id, why, serde_json::to_string(reason).unwrap_or_default());
    }
    if slate.blocks.is_empty() {
        return match slate.degraded {
            Some(stage) => no_bid(&request.id, NoBid::Time, format!("no time for {}", stage.as_str())),
            None => no_bid(&request.id, NoBid::NoMatch, "no campaign fits"),
        };
    }
    let mut seatbid: Vec<SeatBid> = Vec::new();
    for (opening, block) in openings.iter().zip(&slate.blocks) {
        let price = block.sold.expected_per_mille.0 as f64 / 1e6;
        if price < opening.imp.bidfloor || !fits(opening, block) {
            continue;
        }
        let bid = Bid {
            id: format!("{}:{}", slate.auction_id, block.slot),
            impid: opening.imp.id.clone(),
            price,
            adm: markup(&opening.form, block, base, request.test == 1).to_string(),
            adomain: vec![block.sold.domain.clone()],
            crid: format!("{}:{}", block.ad_id, block.sold.version),
            mtype: 4,
            burl: (request.test != 1).then(|| format!("{base}{}", block.impression_url)),
            ext: BidExt {
                dsa: Dsa { behalf: cut(&block.advertiser), paid: cut(&block.paid_by), adrender: 1 },
            },
        };
        match seatbid.iter_mut().find(|seat| seat.seat == block.sold.advertiser_id) {
            Some(seat) => seat.bid.push(bid),
            None => seatbid.push(SeatBid { seat: block.sold.advertiser_id.clone(), bid: vec![bid] }),
        }
    }
    if seatbid.is_empty() {
        return no_bid(
            &request.id,
            NoBid::NoMatch,
            "no bid reaches the floor, or none has a text short enough for the place",
        );
    }
    BidResponse {
        id: request.id.clone(),
        seatbid,
        bidid: Some(slate.auction_id.to_string()),
        cur: Some(currency.to_owned()),
        nbr: None,
        ext: None,
    }
}

fn cut(text: &str) -> String {
    text.chars().take(100).collect()
}

fn markup(form: &NativeRequest, block: &SponsoredBlock, base: &str, test: bool) -> Value {
    let fitting = |text: &str, len: Option<usize>| -> Option<String> {
        // A text is shown whole or not at all: cut, it might say something else.
        (text.chars().count() <= len.unwrap_or(usize::MAX)).then(|| text.to_owned())
    };
    let assets: Vec<Value> = form
        .assets
        .iter()
        .filter_map(|asset| {
            if let Some(title) = &asset.title {
                let text = fitting(&block.headline, Some(title.len))?;
                return Some(json!({"id": asset.id, "title": {"text": text}}));
            }
            let data = asset.data.as_ref()?;
            let value = match data.r#type {
                1 => fitting(&block.advertiser, data.len)?,
                2 => fitting(&block.text, data.len)?,
                11 => fitting(&block.display_url, data.len)?,
                _ => return None,
            };
            Some(json!({"id": asset.id, "data": {"type": data.r#type, "value": value}}))
        })
        .collect();
    let mut native =
        json!({"ver": "1.2", "assets": assets, "link": {"url": format!("{base}{}", block.click_url)}});
    if !test {
        native["eventtrackers"] =
            json!([{"event": 1, "method": 1, "url": format!("{base}{}", block.impression_url)}]);
    }
    json!({"native": native})
}

/// Whether every required part of an opening can be shown of `block`.
fn fits(opening: &Opening<'_>, block: &SponsoredBlock) -> bool {
    let value = markup(&opening.form, block, "", true);
    let shown: Vec<i64> = value["native"]["assets"]
        .as_array()
        .map(|assets| assets.iter().filter_map(|asset| asset["id"].as_i64()).collect())
        .unwrap_or_default();
    opening.form.assets.iter().all(|asset| asset.required != 1 || shown.contains(&asset.id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(change: impl FnOnce(&mut Value)) -> BidRequest {
        let native = json!({"native": {"assets": [
            {"id": 1, "required": 1, "title": {"len": 90}},
            {"id": 2, "required": 1, "data": {"type": 2, "len": 150}},
            {"id": 3, "data": {"type": 1}}]}});
        let mut value = json!({
            "id": "r1", "tmax": 200, "cur": ["USD"],
            "imp": [{"id": "i1", "native": {"request": native.to_string(), "ver": "1.2"}, "bidfloor": 0.5}],
            "site": {"domain": "forum.example", "search": "running shoes", "keywords": "sport"},
            "device": {"devicetype": 4, "language": "en", "geo": {"country": "USA"}, "ip": "192.0.2.1"},
            "user": {"id": "u1"}, "regs": {"ext": {"dsa": {"dsarequired": 2}}},
        });
        change(&mut value);
        serde_json::from_value(value).expect("a request")
    }

    fn refused(change: impl FnOnce(&mut Value)) -> Option<NoBid> {
        let request = request(change);
        openings(&request, "USD")
            .err()
            .or_else(|| deadline(&request, Instant::now()).err())
            .map(|(why, _)| why)
    }

    #[test]
    fn a_request_becomes_an_ad_request() {
        let asked = ad_request(&request(|_| {}), 1, Timestamp::UNIX_EPOCH, Instant::now());
        assert_eq!(asked.text, "running shoes", "what was searched for, and nothing beside it");
        assert_eq!((asked.country.as_deref(), asked.lang.as_deref()), (Some("US"), Some("en")));
        assert_eq!(
            (asked.device, asked.user.as_deref(), asked.test),
            (Some(Device::Phone), Some("u1"), false)
        );
        let child = request(|r| r["regs"]["coppa"] = json!(1));
        assert_eq!(
            ad_request(&child, 1, Timestamp::UNIX_EPOCH, Instant::now()).user,
            None,
            "nothing of a child"
        );
    }

    #[test]
    fn what_cannot_be_bid_on_has_a_number() {
        assert_eq!(refused(|_| {}), None);
        assert_eq!(refused(|r| r["imp"] = json!([])), Some(NoBid::Invalid));
        assert_eq!(refused(|r| r["imp"][0]["bidfloor"] = json!(-1)), Some(NoBid::Invalid));
        assert_eq!(refused(|r| r["imp"][0]["native"]["request"] = json!("{")), Some(NoBid::Invalid));
        assert_eq!(refused(|r| r["imp"] = json!([{"id": "i1", "banner": {}}])), Some(NoBid::Form));
        assert_eq!(refused(|r| r["cur"] = json!(["EUR"])), Some(NoBid::Currency));
        assert_eq!(refused(|r| r["imp"][0]["bidfloorcur"] = json!("EUR")), Some(NoBid::Form));
        assert_eq!(refused(|r| r["tmax"] = json!(10)), Some(NoBid::Time));
        assert_eq!(refused(|r| r["tmax"] = json!(-5)), Some(NoBid::Invalid));
        let image = json!({"assets": [{"id": 1, "required": 1, "img": {"type": 3}}]}).to_string();
        assert_eq!(refused(|r| r["imp"][0]["native"]["request"] = json!(image)), Some(NoBid::Form));
    }
}
