//! Whom an ad group is for.
//!
//! An empty set does not limit. A value that is asked for but unknown of the reader does not match: the advertiser pays
//! for certainty.

use std::collections::BTreeSet;

/// What an ad group asks of reader and place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Targeting {
    /// ISO 639-1 codes, lower case.
    pub languages: BTreeSet<String>,
    /// ISO 3166-1 alpha-2 codes, upper case.
    pub countries: BTreeSet<String>,
    /// Countries that are left out even where `countries` is empty.
    pub excluded_countries: BTreeSet<String>,
    /// Kinds of device.
    pub devices: BTreeSet<Device>,
    /// Hours of the week, UTC.
    pub hours: Hours,
    /// Unique ids of the IAB Content Taxonomy 3.1.
    pub topics: BTreeSet<u16>,
    /// Topics beside which it must not stand.
    pub excluded_topics: BTreeSet<u16>,
}

/// What a reader looks at it with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Device {
    /// Desktop or notebook.
    Desktop,
    /// Telephone.
    Phone,
    /// Tablet.
    Tablet,
    /// Television.
    Tv,
}

impl Device {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Desktop, Self::Phone, Self::Tablet, Self::Tv];

    /// `desktop`, `phone`, `tablet` or `tv`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Desktop => "desktop",
            Self::Phone => "phone",
            Self::Tablet => "tablet",
            Self::Tv => "tv",
        }
    }

    /// The device of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == name)
    }
}

/// Hours of the week, counted from Monday 0:00 UTC; none stands for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hours([u64; 3]);

impl Hours {
    /// In a week.
    pub const PER_WEEK: u8 = 168;

    /// Adds `hour`, under 168; a later one is none.
    pub fn insert(&mut self, hour: u8) {
        if hour < Self::PER_WEEK {
            self.0[usize::from(hour / 64)] |= 1 << (hour % 64);
        }
    }

    /// Whether it does not limit.
    pub fn is_empty(self) -> bool {
        self.0 == [0; 3]
    }

    /// Whether `hour` is one of them, or all are.
    pub fn allows(self, hour: u8) -> bool {
        self.is_empty() || hour < Self::PER_WEEK && self.0[usize::from(hour / 64)] >> (hour % 64) & 1 == 1
    }

    /// The hours, rising.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (0..Self::PER_WEEK).filter(move |hour| !self.is_empty() && self.allows(*hour))
    }
}

/// At most `impressions` to one person in `hours` hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrequencyCap {
    /// Impressions, 1 to 255.
    pub impressions: u8,
    /// Window, 1 to 720 hours (30 days).
    pub hours: u16,
}

/// How a campaign bids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bidding {
    /// The bid of the ad group for a click.
    #[default]
    ManualCpc,
    /// The bid of the ad group for a thousand impressions.
    Cpm,
    /// As many clicks as the budget buys; the ad group's bid is the most for one.
    MaximiseClicks,
    /// Conversions at this cost on average; the ad group's bid is the most for a click.
    TargetCpa,
}

impl Bidding {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::ManualCpc, Self::Cpm, Self::MaximiseClicks, Self::TargetCpa];

    /// `manual_cpc`, `cpm`, `maximise_clicks` or `target_cpa`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ManualCpc => "manual_cpc",
            Self::Cpm => "cpm",
            Self::MaximiseClicks => "maximise_clicks",
            Self::TargetCpa => "target_cpa",
        }
    }

    /// The strategy of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_of_the_week() {
        let mut hours = Hours::default();
        assert!(hours.allows(0) && hours.allows(167), "none stands for all");
        for hour in [0, 63, 64, 167, 168, 255] {
            hours.insert(hour);
        }
        assert_eq!(hours.iter().collect::<Vec<_>>(), [0, 63, 64, 167]);
        assert!(!hours.allows(1) && !hours.allows(168));
    }
}
