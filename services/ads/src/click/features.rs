//! What is known of an ad that is about to be shown, as a bounded list of hashed features.
//!
//! # The hash
//!
//! A feature is a kind (one byte) and one or two values. Its hash is the lower 32 bits of SipHash-1-3 under the fixed
//! key `"bowerbird-clicks"` over: the kind, then for each value its length as `u16` little-endian and its bytes, cut
//! after 256. Only bytes go in, so that every machine hashes alike and a list that was logged can be learnt from years
//! later. How many buckets the hashes fall into is the model's choice, not the list's.

use siphasher::sip::SipHasher13;

use crate::{Device, MatchType};

const KEY: &[u8; 16] = b"bowerbird-clicks";
/// Longest value that is hashed, in bytes.
const MAX_VALUE: usize = 256;
/// Words of the query that count, from the first.
pub const MAX_QUERY_WORDS: usize = 8;
/// Topics of the place that count, from the first.
pub const MAX_TOPICS: usize = 4;
/// Most features of one ad: 22 single ones, and those of words and topics alone and crossed with the ad.
pub const MAX_FEATURES: usize = 22 + 2 * (MAX_QUERY_WORDS + MAX_TOPICS);

/// Where ads are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PageKind {
    /// Beside search results.
    #[default]
    Search,
    /// Below a written answer.
    Answer,
    /// Beside a post, or on any other page.
    Page,
}

impl PageKind {
    /// `search`, `answer` or `page`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Search => "search",
            Self::Answer => "answer",
            Self::Page => "page",
        }
    }
}

/// What is known of one ad in one place. What is not known stays empty, which is a value of its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClickFeatures<'a> {
    /// Id of the ad.
    pub ad: &'a str,
    /// Id of the advertiser.
    pub advertiser: &'a str,
    /// Id of the campaign.
    pub campaign: &'a str,
    /// Id of the ad group.
    pub ad_group: &'a str,
    /// The keyword that called the ad up and how it matched; none for a semantic match.
    pub keyword: Option<(&'a str, MatchType)>,
    /// Words of the query in singular and lower case; the first [`MAX_QUERY_WORDS`] count.
    pub query_words: &'a [String],
    /// Topics of the place; the first [`MAX_TOPICS`] count.
    pub topics: &'a [u16],
    /// Slot, counted from 0 at the top: 0 while an auction is prepared, the slot that was won when an ad is served.
    pub slot: usize,
    /// Where the slots are.
    pub page: PageKind,
    /// What the reader looks at it with.
    pub device: Option<Device>,
    /// ISO 3166-1 alpha-2 code.
    pub country: Option<&'a str>,
    /// ISO 639-1 code.
    pub language: Option<&'a str>,
    /// Hours since Monday 0:00 UTC, 0 to 167.
    pub hour_of_week: Option<u8>,
    /// Length of the headline, in characters.
    pub headline_chars: usize,
    /// Length of the text, in characters.
    pub text_chars: usize,
}

/// A kind of feature. The numbers are part of the hash: they are never given to another kind.
#[derive(Clone, Copy)]
enum Kind {
    Always = 0,
    Ad = 1,
    Advertiser = 2,
    Campaign = 3,
    AdGroup = 4,
    Keyword = 5,
    MatchType = 6,
    QueryWord = 7,
    Topic = 8,
    SlotOnPage = 9,
    Device = 10,
    Country = 11,
    Language = 12,
    HourOfDay = 13,
    DayOfWeek = 14,
    Relevance = 15,
    HeadlineLength = 16,
    TextLength = 17,
    AdTopic = 18,
    KeywordAd = 19,
    AdvertiserCountry = 20,
    AdSlot = 21,
    QueryWordAd = 22,
    Page = 23,
    DevicePage = 24,
}

/// Hashes of the features of one ad in one place, ascending and each once; at most [`MAX_FEATURES`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeatureHashes(pub(super) Vec<u32>);

impl ClickFeatures<'_> {
    /// The hashed list; `log_odds` are those of the relevance gate, in bands half a unit wide from -4 to 10.
    pub fn hashed(&self, log_odds: f64) -> FeatureHashes {
        let mut found = Vec::with_capacity(MAX_FEATURES);
        let mut push = |kind: Kind, one: &[u8], two: &[u8]| found.push(hash(kind as u8, one, two));
        let ad = self.ad.as_bytes();
        let slot = [u8::try_from(self.slot).unwrap_or(u8::MAX)];
        let page = self.page.as_str().as_bytes();
        let device = self.device.map_or("", Device::as_str).as_bytes();
        let country = self.country.unwrap_or_default().as_bytes();
        let (keyword, match_type) = self.keyword.map_or(("", ""), |(text, kind)| (text, kind.as_str()));

        push(Kind::Always, &[], &[]);
        push(Kind::Ad, ad, &[]);
        push(Kind::Advertiser, self.advertiser.as_bytes(), &[]);
        push(Kind::Campaign, self.campaign.as_bytes(), &[]);
        push(Kind::AdGroup, self.ad_group.as_bytes(), &[]);
        push(Kind::Keyword, keyword.as_bytes(), &[]);
        push(Kind::MatchType, match_type.as_bytes(), &[]);
        push(Kind::SlotOnPage, &slot, page);
        push(Kind::Page, page, &[]);
        push(Kind::Device, device, &[]);
        push(Kind::DevicePage, device, page);
        push(Kind::Country, country, &[]);
        push(Kind::Language, self.language.unwrap_or_default().as_bytes(), &[]);
        let hour = self.hour_of_week.map(|hour| hour % 168);
        push(Kind::HourOfDay, &[hour.map_or(u8::MAX, |hour| hour % 24)], &[]);
        push(Kind::DayOfWeek, &[hour.map_or(u8::MAX, |hour| hour / 24)], &[]);
        push(Kind::Relevance, &[relevance_band(log_odds)], &[]);
        push(Kind::HeadlineLength, &[length_band(self.headline_chars)], &[]);
        push(Kind::TextLength, &[length_band(self.text_chars)], &[]);
        push(Kind::AdvertiserCountry, self.advertiser.as_bytes(), country);
        push(Kind::AdSlot, ad, &slot);
        if !keyword.is_empty() {
            push(Kind::KeywordAd, keyword.as_bytes(), ad);
        }
        for word in self.query_words.iter().take(MAX_QUERY_WORDS) {
            push(Kind::QueryWord, word.as_bytes(), &[]);
            push(Kind::QueryWordAd, word.as_bytes(), ad);
        }
        for topic in self.topics.iter().take(MAX_TOPICS) {
            push(Kind::Topic, &topic.to_le_bytes(), &[]);
            push(Kind::AdTopic, &topic.to_le_bytes(), ad);
        }
        found.sort_unstable();
        found.dedup();
        FeatureHashes(found)
    }
}

impl FeatureHashes {
    /// The hashes, ascending.
    pub fn as_slice(&self) -> &[u32] {
        &self.0
    }
}

fn hash(kind: u8, one: &[u8], two: &[u8]) -> u32 {
    let mut bytes = [0; 5 + 2 * MAX_VALUE];
    bytes[0] = kind;
    let mut end = 1;
    for value in [one, two] {
        let value = &value[..value.len().min(MAX_VALUE)];
        bytes[end..end + 2].copy_from_slice(&(value.len() as u16).to_le_bytes());
        bytes[end + 2..end + 2 + value.len()].copy_from_slice(value);
        end += 2 + value.len();
    }
    SipHasher13::new_with_key(KEY).hash(&bytes[..end]) as u32
}

/// Half units from -4 (and everything below) to 10 (and everything above).
fn relevance_band(log_odds: f64) -> u8 {
    // A cast from NaN gives 0.
    ((log_odds.clamp(-4.0, 10.0) + 4.0) * 2.0) as u8
}

/// Powers of the square root of two.
fn length_band(chars: usize) -> u8 {
    ((chars as f64 + 1.0).log2() * 2.0) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> ClickFeatures<'static> {
        ClickFeatures { ad: "a1", advertiser: "v1", country: Some("US"), ..ClickFeatures::default() }
    }

    #[test]
    fn hashes_never_change() {
        // Logged lists are learnt from later: these values are for good.
        assert_eq!(hash(1, b"a1", b""), 3_101_925_468);
        assert_eq!(hash(20, b"v1", b"US"), 3_182_302_205);
        assert_ne!(hash(22, b"ab", b"c"), hash(22, b"a", b"bc"), "values are kept apart");
    }

    #[test]
    fn the_list_is_bounded_and_tells_places_apart() {
        let words: Vec<String> = (0..50).map(|n| format!("word{n}")).collect();
        let full = ClickFeatures {
            keyword: Some(("running shoes", MatchType::Exact)),
            query_words: &words,
            topics: &[1, 2, 3, 4, 5, 6],
            ..example()
        };
        let list = full.hashed(3.0);
        assert!(list.as_slice().len() <= MAX_FEATURES && list.as_slice().len() > 40);
        assert!(list.as_slice().is_sorted());
        let differing = |other: &FeatureHashes| list.0.iter().filter(|hash| !other.0.contains(hash)).count();
        assert_eq!(differing(&ClickFeatures { slot: 1, ..full }.hashed(3.0)), 2, "slot, ad x slot");
        assert_eq!(differing(&full.hashed(3.2)), 0, "the same band of relevance");
        assert_eq!(differing(&full.hashed(3.6)), 1);
        assert_eq!(differing(&ClickFeatures { country: Some("CA"), ..full }.hashed(3.0)), 2);
    }

    #[test]
    fn strange_values_are_values_too() {
        let long = "x".repeat(10_000);
        for log_odds in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0] {
            let odd = ClickFeatures {
                ad: &long,
                hour_of_week: Some(255),
                slot: usize::MAX,
                text_chars: usize::MAX,
                ..example()
            };
            assert!(!odd.hashed(log_odds).as_slice().is_empty());
        }
    }
}
