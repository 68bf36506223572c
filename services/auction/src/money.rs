//! Integer money.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An amount of money in millionths of the currency unit. An integer in JSON.
///
/// Arithmetic is checked: an overflow is `None`, never a wrapped amount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Micros(pub i64);

impl Micros {
    /// No money.
    pub const ZERO: Self = Self(0);
    /// Micros in one currency unit.
    pub const PER_UNIT: i64 = 1_000_000;

    /// `self + other`, or `None` on overflow.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// `self - other`, or `None` on overflow.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// `self * times`, or `None` on overflow.
    pub fn checked_mul(self, times: i64) -> Option<Self> {
        self.0.checked_mul(times).map(Self)
    }

    /// The sum of `amounts`, or `None` on overflow.
    pub fn checked_sum(amounts: impl IntoIterator<Item = Self>) -> Option<Self> {
        amounts.into_iter().try_fold(Self::ZERO, Self::checked_add)
    }
}

/// Units with exactly six decimals: `1.234567`, `-0.000001`.
impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let magnitude = self.0.unsigned_abs();
        let unit = Self::PER_UNIT.unsigned_abs();
        write!(f, "{sign}{}.{:06}", magnitude / unit, magnitude % unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_with_six_decimals() {
        for (micros, shown) in [
            (0, "0.000000"),
            (1, "0.000001"),
            (-1, "-0.000001"),
            (1_234_567, "1.234567"),
            (-2_000_000, "-2.000000"),
            (i64::MIN, "-9223372036854.775808"),
        ] {
            assert_eq!(Micros(micros).to_string(), shown);
        }
    }

    #[test]
    fn overflow_is_none() {
        assert_eq!(Micros(i64::MAX).checked_add(Micros(1)), None);
        assert_eq!(Micros(i64::MIN).checked_sub(Micros(1)), None);
        assert_eq!(Micros(i64::MAX).checked_mul(2), None);
        assert_eq!(Micros::checked_sum([Micros(1), Micros(i64::MAX)]), None);
        assert_eq!(Micros::checked_sum([Micros(1), Micros(2), Micros(3)]), Some(Micros(6)));
    }

    #[test]
    fn an_integer_in_json() {
        assert_eq!(serde_json::to_string(&Micros(1_500_000)).expect("serialises"), "1500000");
        assert_eq!(serde_json::from_str::<Micros>("-7").expect("parses"), Micros(-7));
        assert!(serde_json::from_str::<Micros>("1.5").is_err(), "fractions of a micro are refused");
    }
}
