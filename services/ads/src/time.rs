//! Instants as Unix milliseconds, days in UTC.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Unix milliseconds of `at`.
pub(crate) fn millis(at: Timestamp) -> i64 {
    at.as_millisecond()
}

/// `at + after`, in Unix milliseconds; saturates.
pub(crate) fn millis_after(at: Timestamp, after: Duration) -> i64 {
    millis(at).saturating_add(i64::try_from(after.as_millis()).unwrap_or(i64::MAX))
}

/// The UTC day of `at`, `YYYY-MM-DD`: days compare as text.
pub(crate) fn day(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).date().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_utc_and_compare_as_text() {
        let late: Timestamp = "2015-03-15T23:59:59.999Z".parse().expect("valid");
        let next: Timestamp = "2015-03-16T00:00:00Z".parse().expect("valid");
        assert_eq!(day(late), "2015-03-15");
        assert_eq!(day(next), "2015-03-16");
        assert_eq!(millis_after(late, Duration::from_millis(1)), millis(next));
        assert_eq!(millis_after(late, Duration::MAX), i64::MAX);
    }
}
