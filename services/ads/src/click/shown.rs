//! What a decision remembers of an ad it served, so that its fate can be learnt from.
//!
//! # Bytes
//!
//! Little-endian: version `u8` = 1; `log_odds`, `examination`, `first`, `exposure`, `calibration_weight`, each `f32`;
//! count `u8`, at most [`MAX_FEATURES`]; as many hashes, each `u32`, strictly ascending. At most 206 bytes.

use super::features::{FeatureHashes, MAX_FEATURES};

const VERSION: u8 = 1;
const HEAD: usize = 22;

/// An ad as it was served; made by [`super::ClickModel::shown`] and stored with the decision.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// Hashed features, with the slot it got.
    pub features: FeatureHashes,
    /// Log-odds of the relevance gate.
    pub log_odds: f32,
    /// Chance of being looked at in its slot, above 0 and at most 1.
    pub examination: f32,
    /// What the auction ranked it by before calibration: a logit, in the first slot.
    pub first: f32,
    /// Click probability in its slot relative to the first slot.
    pub exposure: f32,
    /// How much it counts in calibration: 1 for the winner of an ordinary auction; 0 leaves it out, as for a draw;
    /// `1 / propensity` is for those who want the curve of all candidates.
    pub calibration_weight: f32,
}

/// The bytes are not those of a [`Shown`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes are not a served ad: {problem}")]
pub struct NotShown {
    /// How many bytes were given.
    pub bytes: usize,
    /// What is wrong with them.
    pub problem: &'static str,
}

impl Shown {
    /// The bytes described above.
    pub fn to_bytes(&self) -> Vec<u8> {
        let hashes = self.features.as_slice();
        let mut bytes = Vec::with_capacity(HEAD + 4 * hashes.len());
        bytes.push(VERSION);
        for value in [self.log_odds, self.examination, self.first, self.exposure, self.calibration_weight] {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        bytes.push(hashes.len() as u8);
        for hash in hashes {
            bytes.extend_from_slice(&hash.to_le_bytes());
        }
        bytes
    }

    /// Reads what [`Self::to_bytes`] wrote. Errors: another version, a wrong length, a number that is not finite,
    /// hashes out of order.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NotShown> {
        let wrong = |problem| NotShown { bytes: bytes.len(), problem };
        let Some((head, tail)) = bytes.split_at_checked(HEAD) else { return Err(wrong("too short")) };
        if head[0] != VERSION {
            return Err(wrong("another version"));
        }
        let count = usize::from(head[HEAD - 1]);
        if count > MAX_FEATURES || tail.len() != 4 * count {
            return Err(wrong("the number of features is not that of the bytes"));
        }
        let number = |at: usize| f32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let numbers = [1, 5, 9, 13, 17].map(number);
        if !numbers.iter().all(|x| x.is_finite()) {
            return Err(wrong("a number is not finite"));
        }
        let hashes: Vec<u32> = tail
            .chunks_exact(4)
            .map(|four| u32::from_le_bytes([four[0], four[1], four[2], four[3]]))
            .collect();
        if !hashes.is_sorted_by(|a, b| a < b) {
            return Err(wrong("features out of order"));
        }
        let [log_odds, examination, first, exposure, calibration_weight] = numbers;
        let features = FeatureHashes(hashes);
        Ok(Self { features, log_odds, examination, first, exposure, calibration_weight })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_and_damage_is_seen() {
        let shown = Shown {
            features: FeatureHashes(vec![1, 7, u32::MAX]),
            log_odds: 3.5,
            examination: 0.6,
            first: -3.1,
            exposure: 0.62,
            calibration_weight: 1.0,
        };
        let bytes = shown.to_bytes();
        assert_eq!(bytes.len(), 22 + 12);
        assert_eq!(Shown::from_bytes(&bytes), Ok(shown));
        for end in 0..bytes.len() {
            assert!(Shown::from_bytes(&bytes[..end]).is_err(), "{end}");
        }
        for (at, value) in [(0, 9), (4, 0xff), (21, 2), (22, 8)] {
            let mut damaged = bytes.clone();
            damaged[at] = value;
            if at == 4 {
                damaged[3] = 0xff;
            }
            assert!(Shown::from_bytes(&damaged).is_err(), "{at}");
        }
    }
}
