//! A world whose click probabilities are known, to measure a model against.
//!
//! The truth is logistic: `-4.6 + .25 · log_odds` of the relevance gate, and effects of ad (standard deviation .5),
//! advertiser (.3), ad x topic (.3), advertiser x country (.2), query word x ad (.15), device and hour; a click in a slot
//! happens with `p · examination`. The prior of the configuration is wrong by intercept and slope, as a guess would be.
//! A quarter of the ads begin in the second half.

use rand::rngs::SmallRng;
use rand::seq::index;
use rand::{Rng, SeedableRng};

use super::explore;
use super::features::{ClickFeatures, PageKind};
use super::ftrl::sigmoid;
use crate::{Device, MatchType};

const ADS: usize = 240;
const ADVERTISERS: usize = 80;
const TOPICS: usize = 20;
const WORDS_PER_TOPIC: usize = 10;
const COUNTRIES: [(&str, f64); 4] = [("US", 0.6), ("CA", 0.15), ("GB", 0.15), ("AU", 0.1)];
const DEVICES: [(Device, f64); 3] = [(Device::Phone, -0.1), (Device::Desktop, 0.1), (Device::Tablet, 0.0)];

/// An ad of the world.
#[derive(Clone, Debug)]
pub struct Ad {
    /// Id.
    pub id: String,
    /// What is bid for a click.
    pub bid: f64,
    /// Number of the auction from which on it takes part.
    pub starts: usize,
    advertiser: usize,
    effect: f64,
    by_topic: Vec<(f64, f64)>,
    headline_chars: usize,
}

/// A request of the world and who bids for it.
#[derive(Clone, Debug)]
pub struct Auction {
    /// Names it.
    pub id: [u8; 16],
    /// Places of the bidders in [`World::ads`], with the log-odds of the relevance gate.
    pub bidders: Vec<(usize, f64)>,
    words: Vec<String>,
    topics: [u16; 1],
    country: usize,
    device: usize,
    hour: u8,
}

/// The hidden truth and the chance that draws from it.
pub struct World {
    /// Everyone who may bid.
    pub ads: Vec<Ad>,
    advertisers: Vec<(String, f64, [f64; COUNTRIES.len()])>,
    random: SmallRng,
    seed: u64,
    auctions: usize,
}

impl World {
    /// A world for `auctions` auctions; the same seed makes the same one.
    pub fn new(auctions: usize, seed: u64) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut advertiser = |n: usize| {
            let effect = 0.3 * normal(&mut random);
            (format!("advertiser{n}"), effect, [(); COUNTRIES.len()].map(|()| 0.2 * normal(&mut random)))
        };
        let advertisers = (0..ADVERTISERS).map(&mut advertiser).collect();
        let mut ad = |n: usize| Ad {
            id: format!("ad{n}"),
            bid: (0.3 * normal(&mut random)).exp(),
            starts: if n % 4 == 3 { random.random_range(auctions / 2..=auctions * 9 / 10) } else { 0 },
            advertiser: n / (ADS / ADVERTISERS),
            effect: 0.5 * normal(&mut random),
            by_topic: (0..TOPICS)
                .map(|_| (random.random_range(0.85..8.0), 0.3 * normal(&mut random)))
                .collect(),
            headline_chars: random.random_range(10..30),
        };
        let ads = (0..ADS).map(&mut ad).collect();
        Self { ads, advertisers, random, seed, auctions }
    }

    /// Auction number `at`, with `bidders` of the ads that take part by then.
    pub fn auction(&mut self, at: usize, bidders: usize) -> Auction {
        let random = &mut self.random;
        let topic = random.random_range(0..TOPICS);
        // Words further down a topic's list are rarer.
        let mut word = || {
            let rank = (WORDS_PER_TOPIC as f64).powf(random.random::<f64>()) as usize;
            format!("t{topic}w{}", rank.min(WORDS_PER_TOPIC))
        };
        let words = vec![word(), word()];
        let mut pick = random.random::<f64>();
        let country = COUNTRIES.iter().position(|(_, share)| {
            pick -= share;
            pick < 0.0
        });
        let (device, hour) = (random.random_range(0..DEVICES.len()), random.random_range(0..168));
        let active: Vec<usize> = (0..ADS).filter(|ad| self.ads[*ad].starts <= at).collect();
        let drawn = index::sample(random, active.len(), bidders.min(active.len()));
        let bidders = drawn
            .iter()
            .map(|ad| {
                let ad = active[ad];
                (ad, self.ads[ad].by_topic[topic].0 + 0.5 * normal(random))
            })
            .collect();
        Auction {
            id: (u128::from(self.seed) << 64 | at as u128).to_le_bytes(),
            bidders,
            words,
            topics: [topic as u16],
            country: country.unwrap_or(0),
            device,
            hour,
        }
    }

    /// What a model may know of ad `ad` in `auction`, in the first slot.
    pub fn features<'a>(&'a self, auction: &'a Auction, ad: usize) -> ClickFeatures<'a> {
        let ad = &self.ads[ad];
        let advertiser = self.advertisers[ad.advertiser].0.as_str();
        ClickFeatures {
            ad: &ad.id,
            advertiser,
            campaign: advertiser,
            ad_group: advertiser,
            keyword: ad
                .headline_chars
                .is_multiple_of(2)
                .then(|| (auction.words[0].as_str(), MatchType::Broad)),
            query_words: &auction.words,
            topics: &auction.topics,
            slot: 0,
            page: PageKind::Search,
            device: Some(DEVICES[auction.device].0),
            country: Some(COUNTRIES[auction.country].0),
            language: Some("en"),
            hour_of_week: Some(auction.hour),
            headline_chars: ad.headline_chars,
            text_chars: 3 * ad.headline_chars,
        }
    }

    /// The true probability of a click on ad `ad` in the first slot.
    pub fn truth(&self, auction: &Auction, ad: usize, log_odds: f64) -> f64 {
        let one = &self.ads[ad];
        let advertiser = &self.advertisers[one.advertiser];
        let key = (u128::from(self.seed) + 1).to_le_bytes();
        let by_word: f64 = auction
            .words
            .iter()
            .map(|word| 0.15 * explore::normal(key, &format!("{word} {}", one.id), 0))
            .sum();
        let daily = 0.1 * (f64::from(auction.hour % 24) / 24.0 * std::f64::consts::TAU).sin();
        sigmoid(
            -4.6 + 0.25 * log_odds
                + one.effect
                + advertiser.1
                + advertiser.2[auction.country]
                + one.by_topic[usize::from(auction.topics[0])].1
                + by_word
                + DEVICES[auction.device].1
                + daily,
        )
    }

    /// Whether something of probability `p` happens.
    pub fn happens(&mut self, p: f64) -> bool {
        self.random.random_bool(p.clamp(0.0, 1.0))
    }

    /// Number of auctions it was made for.
    pub fn auctions(&self) -> usize {
        self.auctions
    }
}

/// A standard normal draw.
pub(super) fn normal(random: &mut SmallRng) -> f64 {
    let radius = (-2.0 * (1.0 - random.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * random.random::<f64>()).cos()
}
