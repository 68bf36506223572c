//! Events that no person made: bots, prefetching browsers, floods, and clicks faster than a hand.
//!
//! What is found is kept with its reason, counted apart and never charged; a rule that is wrong can be seen to be wrong
//! in the reports. Rules see what a request says of itself, so they are a floor, not a proof of humanity.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ipnet::IpNet;
use jiff::Timestamp;
use moka::sync::Cache;
use serde::{Deserialize, Serialize};

use crate::time::millis;

/// What an event's request says of its sender.
#[derive(Clone, Debug, Default)]
pub struct EventContext {
    /// Header `User-Agent`.
    pub user_agent: Option<String>,
    /// Where it comes from.
    pub ip: Option<IpAddr>,
    /// Header `Sec-Purpose: prefetch`, or `Purpose: prefetch`: a browser guesses what may be wanted.
    pub prefetch: bool,
}

/// Why an event is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Invalid {
    /// The agent calls itself a bot or a tool.
    UaList,
    /// The address belongs to a network from which no people come.
    Network,
    /// Too many events from one address in a minute.
    RateIp,
    /// The click came faster after its impression than a person can read.
    TtcTooFast,
    /// Its impression was not valid.
    InvalidImpression,
}

impl Invalid {
    const ALL: [Self; 5] =
        [Self::UaList, Self::Network, Self::RateIp, Self::TtcTooFast, Self::InvalidImpression];

    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == name)
    }

    /// `ua_list`, `network`, `rate_ip`, `ttc_too_fast` or `invalid_impression`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UaList => "ua_list",
            Self::Network => "network",
            Self::RateIp => "rate_ip",
            Self::TtcTooFast => "ttc_too_fast",
            Self::InvalidImpression => "invalid_impression",
        }
    }
}

/// When traffic counts as invalid.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrafficConfig {
    /// Parts of agent names, in lower case, whose events are not valid.
    pub agents: Vec<String>,
    /// Networks whose events are not valid, such as `198.51.100.0/24`.
    pub networks: Vec<IpNet>,
    /// Least time between impression and click; a person needs about half a second.
    #[serde(with = "humantime_serde")]
    pub least_click_delay: Duration,
    /// Most clicks from one address in a minute.
    pub clicks_per_minute: u32,
    /// Most impressions from one address in a minute; offices and mobile networks share addresses.
    pub impressions_per_minute: u32,
}

/// Names that robots and tools give themselves.
const AGENTS: &[&str] = &[
    "bot",
    "crawler",
    "spider",
    "headless",
    "slurp",
    "curl/",
    "wget/",
    "python-requests",
    "python-urllib",
    "scrapy",
    "httpclient",
    "java/",
    "go-http-client",
    "libwww",
    "phantomjs",
    "facebookexternalhit",
    "preview",
    "monitor",
];

impl Default for TrafficConfig {
    fn default() -> Self {
        Self {
            agents: AGENTS.iter().map(|name| (*name).to_owned()).collect(),
            networks: Vec::new(),
            least_click_delay: Duration::from_millis(500),
            clicks_per_minute: 30,
            impressions_per_minute: 600,
        }
    }
}

/// The rules with their counters.
pub(crate) struct Traffic {
    config: TrafficConfig,
    /// Events of an address, kind and minute. Addresses are kept as keyed hashes and forgotten.
    counts: Cache<(u64, i64), Arc<AtomicU32>>,
    key: RandomState,
}

impl Traffic {
    /// Rules after `config`. Counters take at most about 10 MB.
    pub fn new(config: TrafficConfig) -> Self {
        let counts = Cache::builder().max_capacity(100_000).time_to_live(Duration::from_mins(2)).build();
        Self { config, counts, key: RandomState::new() }
    }

    /// What is wrong with an impression.
    pub fn impression(&self, context: &EventContext, now: Timestamp) -> Option<Invalid> {
        self.sender(context).or_else(|| self.flood(context, now, 'i', self.config.impressions_per_minute))
    }

    /// What is wrong with a click whose impression was at `seen_ms`.
    pub fn click(&self, context: &EventContext, seen_ms: i64, now: Timestamp) -> Option<Invalid> {
        let least = i64::try_from(self.config.least_click_delay.as_millis()).unwrap_or(i64::MAX);
        self.sender(context)
            .or_else(|| self.flood(context, now, 'c', self.config.clicks_per_minute))
            .or_else(|| (millis(now) - seen_ms < least).then_some(Invalid::TtcTooFast))
    }

    fn sender(&self, context: &EventContext) -> Option<Invalid> {
        if let Some(agent) = &context.user_agent {
            let agent: String = agent.chars().take(512).collect::<String>().to_lowercase();
            if agent.trim().is_empty() || self.config.agents.iter().any(|part| agent.contains(part)) {
                return Some(Invalid::UaList);
            }
        }
        let ip = context.ip?;
        self.config.networks.iter().any(|network| network.contains(&ip)).then_some(Invalid::Network)
    }

    fn flood(&self, context: &EventContext, now: Timestamp, kind: char, most: u32) -> Option<Invalid> {
        let key = (self.key.hash_one((context.ip?, kind)), millis(now) / 60_000);
        let before = self.counts.get_with(key, Arc::default).fetch_add(1, Ordering::Relaxed);
        (before >= most).then_some(Invalid::RateIp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(1_700_000_000_000 + ms).expect("in range")
    }

    #[test]
    fn senders_floods_and_haste() {
        let config = TrafficConfig {
            networks: vec!["198.51.100.0/24".parse().expect("a network")],
            clicks_per_minute: 3,
            ..TrafficConfig::default()
        };
        let traffic = Traffic::new(config);
        let from = |agent: &str, ip: &str| EventContext {
            user_agent: Some(agent.into()),
            ip: ip.parse().ok(),
            prefetch: false,
        };
        let firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
        let seen = at(0).as_millisecond();
        let click = |context: &EventContext, ms| traffic.click(context, seen, at(ms));
        assert_eq!(click(&from(firefox, "192.0.2.1"), 2_000), None);
        assert_eq!(click(&from("GoogleBot/2.1", "192.0.2.2"), 2_000), Some(Invalid::UaList));
        assert_eq!(click(&from("", "192.0.2.2"), 2_000), Some(Invalid::UaList));
        assert_eq!(click(&from(firefox, "198.51.100.7"), 2_000), Some(Invalid::Network));
        assert_eq!(click(&from(firefox, "192.0.2.3"), 499), Some(Invalid::TtcTooFast));
        assert_eq!(click(&EventContext::default(), 500), None, "nothing said, nothing held against it");
        let flooding = from(firefox, "192.0.2.9");
        let results: Vec<_> = (0..5).map(|_| click(&flooding, 3_000)).collect();
        assert_eq!(results, [None, None, None, Some(Invalid::RateIp), Some(Invalid::RateIp)]);
        assert_eq!(click(&flooding, 63_000), None, "the next minute");
        assert_eq!(traffic.impression(&flooding, at(3_000)), None, "counted apart");
    }
}
