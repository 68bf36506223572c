//! What is known about the asking side when ads are chosen.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::Device;
use crate::time::day;

/// Reader, place and time of a request, in the form that targeting compares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Audience {
    /// ISO 639-1, lower case.
    pub lang: Option<String>,
    /// ISO 3166-1 alpha-2, upper case.
    pub country: Option<String>,
    pub device: Option<Device>,
    /// From Monday 0:00 UTC, 0 to 167.
    pub hour_of_week: u8,
    /// Topics of the text; empty until they are known.
    pub topics: Vec<u16>,
    /// UTC day, `YYYY-MM-DD`.
    pub day: String,
}

impl Audience {
    /// At `now`, without topics. `en-US` speaks `en`.
    pub fn new(now: Timestamp, lang: Option<&str>, country: Option<&str>, device: Option<Device>) -> Self {
        let at = now.to_zoned(TimeZone::UTC);
        let hour = i16::from(at.weekday().to_monday_zero_offset()) * 24 + i16::from(at.hour());
        Self {
            lang: lang.and_then(|lang| lang.split(['-', '_']).next()).map(str::to_ascii_lowercase),
            country: country.map(str::to_ascii_uppercase),
            device,
            hour_of_week: u8::try_from(hour).unwrap_or_default(),
            topics: Vec::new(),
            day: day(now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weeks_begin_on_monday_and_days_at_midnight_utc() {
        let at = |time: &str| Audience::new(time.parse().expect("valid"), Some("en-US"), Some("us"), None);
        let check = |time: &str, hour: u8, day: &str| {
            let audience = at(time);
            assert_eq!((audience.hour_of_week, audience.day.as_str()), (hour, day), "{time}");
        };
        check("2026-03-09T00:00:00Z", 0, "2026-03-09");
        check("2026-03-10T12:59:59Z", 36, "2026-03-10");
        check("2026-03-15T23:59:59.999Z", 167, "2026-03-15");
        check("2026-03-16T00:00:00Z", 0, "2026-03-16");
        let audience = at("2026-03-09T00:00:00Z");
        assert_eq!((audience.lang.as_deref(), audience.country.as_deref()), (Some("en"), Some("US")));
    }
}
