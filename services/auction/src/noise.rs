//! Random numbers that anyone with the seed can draw again, on any machine.
//!
//! A number is SipHash-2-4, keyed with the seed, of what it is drawn for. SipHash is a pseudo-random function: who does
//! not hold the seed cannot tell the numbers from chance, and a number depends on nothing but seed, purpose, segment
//! and id, so candidates that come or go do not move the noise of others. Logarithms and powers come from `libm`, which
//! is plain Rust: those of the platform differ in the last bit from machine to machine.

use siphasher::sip::SipHasher24;

/// What a number is drawn for; each has a stream of its own.
#[derive(Clone, Copy)]
pub(crate) enum Purpose {
    /// Noise of an ad.
    Ad = 0,
    /// Noise of showing no ad.
    NoAd = 1,
    /// Order among equals.
    Tie = 2,
}

/// Draws for one segment of one auction.
pub(crate) struct Noise {
    hasher: SipHasher24,
    segment: u32,
}

impl Noise {
    pub(crate) fn new(seed: &[u8; 16], segment: u32) -> Self {
        Self { hasher: SipHasher24::new_with_key(seed), segment }
    }

    /// 64 random bits.
    pub(crate) fn bits(&self, purpose: Purpose, id: &[u8]) -> u64 {
        let mut message = Vec::with_capacity(5 + id.len());
        message.push(purpose as u8);
        message.extend_from_slice(&self.segment.to_le_bytes());
        message.extend_from_slice(id);
        self.hasher.hash(&message)
    }

    /// A draw `E` of the exponential distribution with mean 1, within 1e-16 to 37. `-ln E` is a Gumbel draw.
    pub(crate) fn exponential(&self, purpose: Purpose, id: &[u8]) -> f64 {
        // 52 bits and a half: never 0 and never 1.
        let uniform = ((self.bits(purpose, id) >> 12) as f64 + 0.5) / (1_u64 << 52) as f64;
        -libm::log(uniform)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Worked out apart, with a SipHash in another language and 50 digits of the logarithm. They must never change, or
    /// old logs could not be replayed.
    #[test]
    fn the_same_on_every_machine() {
        let noise = Noise::new(&std::array::from_fn(|i| i as u8), 7);
        let drawn: Vec<u64> =
            [Purpose::Ad, Purpose::NoAd, Purpose::Tie].map(|p| noise.bits(p, b"ad-1")).to_vec();
        assert_eq!(drawn, [8194524014183039763, 17857602434747596456, 15107980125686827766]);
        assert_eq!(noise.exponential(Purpose::Ad, b"ad-1").to_bits(), 0x3fe9f72ac108aae7);
    }

    #[test]
    fn exponential_has_mean_and_variance_one() {
        let noise = Noise::new(&[9; 16], 0);
        let draws: Vec<f64> =
            (0..40_000_u32).map(|i| noise.exponential(Purpose::Ad, &i.to_le_bytes())).collect();
        let mean = draws.iter().sum::<f64>() / 40_000.0;
        let variance = draws.iter().map(|e| (e - mean).powi(2)).sum::<f64>() / 40_000.0;
        // Standard errors: 0.005 of the mean and 0.014 of the variance.
        assert!((mean - 1.0).abs() < 0.015 && (variance - 1.0).abs() < 0.045, "{mean} {variance}");
    }
}
