//! The bytes of a file of click weights.
//!
//! All numbers little-endian.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `BOWERCLK` |
//! | 4 | version, `u32` = 1 |
//! | 4 | `bits`, `u32` |
//! | 8 × 8 | `alpha`, `beta`, `l1`, `l2`, `prior_precision`, `variance_penalty`, intercept and slope of the prior, `f64` |
//! | 3 × 8 | sequence number of the last example; examples; clicks among them, `u64` |
//! | 4 | calibration, `u32`: 0 none, 1 power, 2 isotonic |
//! | 4 + 16 P | number of pairs P, `u32`, and the pairs, two `f64` each: the points; for power `centre`, `level` and `exponent`, 0 |
//! | 8 + 13 O | number of observations O, `u64`; each `logit`, `exposure`, `weight`, `f32`, and clicked, `u8` |
//! | 8 + 16 C | number of buckets that are not empty C, `u64`; each its number, `u32`, ascending, and `z`, `n`, `precision`, `f32` |
//! | 4 | CRC-32 (IEEE) of everything before |

use std::path::Path;
use std::sync::Arc;

use super::calibrate::{Calibration, Observation};
use super::ftrl::Cell;
use super::model::{ClickModel, Learner};
use super::state::ClickStateError;

pub(super) const MAGIC: &[u8; 8] = b"BOWERCLK";
pub(super) const VERSION: u32 = 1;

impl ClickModel {
    /// Everything that decides what an example does to the weights, or what an estimate means.
    fn settings(&self) -> [(&'static str, f64); 8] {
        let (config, prior) = (&self.config, &self.prior);
        [
            ("clicks.alpha", config.alpha),
            ("clicks.beta", config.beta),
            ("clicks.l1", config.l1),
            ("clicks.l2", config.l2),
            ("clicks.prior_precision", config.prior_precision),
            ("clicks.variance_penalty", config.variance_penalty),
            ("click_prior.intercept", prior.intercept),
            ("click_prior.slope", prior.slope),
        ]
    }

    /// The file's bytes.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let learner = self.learner.lock();
        let mut out = Vec::with_capacity(1 << 20);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&self.config.bits.to_le_bytes());
        for (_, value) in self.settings() {
            out.extend_from_slice(&value.to_le_bytes());
        }
        for value in [learner.last, learner.impressions, learner.clicks] {
            out.extend_from_slice(&value.to_le_bytes());
        }
        let (kind, pairs) = match &**self.calibration.load() {
            Calibration::None => (0_u32, Vec::new()),
            Calibration::Power { centre, level, exponent } => (1, vec![(*centre, *level), (*exponent, 0.0)]),
            Calibration::Isotonic(points) => (2, points.clone()),
        };
        out.extend_from_slice(&kind.to_le_bytes());
        out.extend_from_slice(&(pairs.len() as u32).to_le_bytes());
        for value in pairs.iter().flat_map(|pair| [pair.0, pair.1]) {
            out.extend_from_slice(&value.to_le_bytes());
        }
        out.extend_from_slice(&(learner.window.len() as u64).to_le_bytes());
        for row in &learner.window {
            for value in [row.logit, row.exposure, row.weight] {
                out.extend_from_slice(&value.to_le_bytes());
            }
            out.push(u8::from(row.clicked));
        }
        let place = out.len();
        out.extend_from_slice(&0_u64.to_le_bytes());
        let mut cells = 0_u64;
        for at in 0..self.weights.len() {
            let cell = self.weights.cell(at);
            if cell != Cell::default() {
                cells += 1;
                out.extend_from_slice(&(at as u32).to_le_bytes());
                for value in [cell.z, cell.n, cell.precision] {
                    out.extend_from_slice(&value.to_le_bytes());
                }
            }
        }
        out[place..place + 8].copy_from_slice(&cells.to_le_bytes());
        let crc = crc32fast::hash(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// `Ok(None)` when a part is missing, too long or impossible.
    pub(super) fn restore(&self, rest: &mut Rest<'_>, path: &Path) -> Result<Option<()>, ClickStateError> {
        let other = |setting, found, expected| {
            Err(ClickStateError::OtherSettings { path: path.to_owned(), setting, found, expected })
        };
        let Some(bits) = rest.u32() else { return Ok(None) };
        if bits != self.config.bits {
            return other("clicks.bits", f64::from(bits), f64::from(self.config.bits));
        }
        for (setting, expected) in self.settings() {
            let Some(found) = rest.f64() else { return Ok(None) };
            if found.to_bits() != expected.to_bits() {
                return other(setting, found, expected);
            }
        }
        Ok(self.restore_learnt(rest))
    }

    fn restore_learnt(&self, rest: &mut Rest<'_>) -> Option<()> {
        let mut learner = Learner {
            last: rest.u64()?,
            impressions: rest.u64()?,
            clicks: rest.u64()?,
            ..Learner::default()
        };
        let kind = rest.u32()?;
        let mut pairs = Vec::new();
        for _ in 0..rest.u32()? {
            pairs.push((rest.f64()?, rest.f64()?));
        }
        let calibration = match (kind, &pairs[..]) {
            (0, []) => Calibration::None,
            (1, &[(centre, level), (exponent, _)]) => Calibration::Power { centre, level, exponent },
            (2, points) if points.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1) => Calibration::Isotonic(pairs),
            _ => return None,
        };
        for _ in 0..rest.u64()? {
            let (logit, exposure, weight) = (rest.f32()?, rest.f32()?, rest.f32()?);
            learner.window.push_back(Observation { logit, exposure, weight, clicked: rest.u8()? == 1 });
        }
        while learner.window.len() > self.config.calibration_window {
            learner.window.pop_front();
        }
        for _ in 0..rest.u64()? {
            let at = rest.u32()? as usize;
            let cell = Cell { z: rest.f32()?, n: rest.f32()?, precision: rest.f32()? };
            let finite = cell.z.is_finite() && cell.n.is_finite() && cell.precision.is_finite();
            if at >= self.weights.len() || !finite || cell.n < 0.0 || cell.precision < 0.0 {
                return None;
            }
            self.weights.set(at, cell);
        }
        if !rest.0.is_empty() {
            return None;
        }
        self.calibration.store(Arc::new(calibration));
        *self.learner.lock() = learner;
        Some(())
    }
}

/// Bytes not read yet.
pub(super) struct Rest<'a>(pub &'a [u8]);

impl Rest<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk::<N>()?;
        self.0 = tail;
        Some(*head)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take().map(u8::from_le_bytes)
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn f32(&mut self) -> Option<f32> {
        self.take().map(f32::from_le_bytes)
    }

    fn f64(&mut self) -> Option<f64> {
        self.take().map(f64::from_le_bytes)
    }
}
