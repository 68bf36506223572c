//! Chance in the service of learning, repeatable from ids.
//!
//! Thompson sampling (doi:10.1093/biomet/25.3-4.285): in a small share of auctions an ad is ranked by a draw from what
//! its click probability may be instead of by the estimate, so that ads nobody knows get shown now and then. Everything
//! random comes from the id of the auction and of the ad: the same auction is drawn alike for ever.

use std::f64::consts::TAU;

use siphasher::sip::SipHasher24;

/// Whether the auction is one of the `share` of all in which estimates are drawn.
pub fn explores(auction_id: [u8; 16], share: f64) -> bool {
    uniform(SipHasher24::new_with_key(&auction_id).hash(b"explore")) < share
}

/// A draw from the standard normal distribution for an ad in an auction.
///
/// `round` 0 is the draw the auction uses; others serve to estimate, by repetition, how likely its outcome was.
/// Box and Muller, doi:10.1214/aoms/1177706645.
pub fn normal(auction_id: [u8; 16], ad: &str, round: u32) -> f64 {
    let hasher = SipHasher24::new_with_key(&auction_id);
    let mut bytes = Vec::with_capacity(ad.len() + 5);
    bytes.extend_from_slice(&round.to_le_bytes());
    bytes.push(0);
    bytes.extend_from_slice(ad.as_bytes());
    let radius = uniform(hasher.hash(&bytes));
    bytes[4] = 1;
    let angle = uniform(hasher.hash(&bytes));
    // 1 - u is above 0, so that its logarithm is finite.
    (-2.0 * (1.0 - radius).ln()).sqrt() * (TAU * angle).cos()
}

/// At least 0 and below 1.
fn uniform(hash: u64) -> f64 {
    (hash >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auction(n: u32) -> [u8; 16] {
        u128::from(n).to_le_bytes()
    }

    #[test]
    fn a_share_of_auctions_explores() {
        let count = (0..20_000).filter(|n| explores(auction(*n), 0.02)).count();
        assert!((300..500).contains(&count), "{count} of 20,000");
        assert!(!(0..1000).any(|n| explores(auction(n), 0.0)));
        assert!((0..1000).all(|n| explores(auction(n), 1.0)));
    }

    #[test]
    fn draws_are_normal_and_repeatable() {
        let draws: Vec<f64> =
            (0..20_000).map(|n| normal(auction(n / 4), &format!("ad{}", n % 4), 0)).collect();
        let mean = draws.iter().sum::<f64>() / 20_000.0;
        let variance = draws.iter().map(|x| x * x).sum::<f64>() / 20_000.0;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
        let tail = draws.iter().filter(|x| x.abs() > 1.96).count();
        assert!((900..1100).contains(&tail), "{tail}");
        let one = |round| normal(auction(1), "a", round).to_bits();
        assert_eq!(one(0), one(0));
        assert_ne!(one(0), one(1));
    }
}
