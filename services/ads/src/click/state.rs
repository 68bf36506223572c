//! What was learnt, in a file (`format` describes its bytes).
//!
//! The file is written beside itself and renamed, so that a crash leaves the old one or the new one. It is a copy of
//! what the log of outcomes says: whatever is wrong with it, an empty model and a replay make it again.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::config::ClickConfig;
use super::format::{MAGIC, Rest, VERSION};
use super::model::ClickModel;
use crate::{ClickPrior, ConfigProblems};

/// Largest file that is read: every one of 2^26 buckets, the largest window, and room for the rest.
const MAX_BYTES: u64 = (16 << 26) + 13 * 10_000_000 + (1 << 20);

/// Why a file of click weights is of no use. The remedy is the same for all: replay the log of outcomes.
#[derive(Debug, thiserror::Error)]
pub enum ClickStateError {
    /// Reading or writing failed.
    #[error("cannot {what} the click model {path}")]
    Io {
        /// `read` or `write`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It begins with other bytes.
    #[error("{path} is not a click model")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// Written by another version of this program.
    #[error("click model {path} has format {found}, expected {VERSION}")]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// Some bytes are not those that were written.
    #[error("click model {path} is damaged: {problem}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        problem: &'static str,
    },
    /// Learnt with other settings than those in force.
    #[error("click model {path} was learnt with {setting} {found}, the configuration says {expected}")]
    OtherSettings {
        /// The file.
        path: PathBuf,
        /// Name of the setting.
        setting: &'static str,
        /// In the file.
        found: f64,
        /// In force.
        expected: f64,
    },
}

impl ClickModel {
    /// The model in the file at `path`. When there is none, or one of no use, an empty model, and what was wrong; the
    /// log of outcomes is then to be replayed from its beginning, as always from [`ClickModel::last_sequence`] on.
    pub fn open(
        config: ClickConfig,
        prior: ClickPrior,
        path: &Path,
    ) -> Result<(Self, Option<ClickStateError>), ConfigProblems> {
        let model = Self::new(config, prior)?;
        match model.load(path) {
            Ok(()) => Ok((model, None)),
            Err(problem) => {
                // Nothing is put into a model before the checksum is right; a later problem may have left a part.
                let model = Self::new(model.config, prior)?;
                let absent = matches!(&problem, ClickStateError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound);
                Ok((model, (!absent).then_some(problem)))
            }
        }
    }

    /// Writes what was learnt to `path`, durable at return; learning waits while it is copied (about 50 ms), reading
    /// does not. One saves at a time.
    pub fn save(&self, path: &Path) -> Result<(), ClickStateError> {
        let bytes = self.to_bytes();
        let write = || -> io::Result<()> {
            let beside = beside(path);
            let mut file = File::create(&beside)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&beside, path)?;
            let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(dir)?.sync_all()
        };
        write().map_err(|source| ClickStateError::Io { what: "write", path: path.to_owned(), source })
    }

    fn load(&self, path: &Path) -> Result<(), ClickStateError> {
        let io = |source| ClickStateError::Io { what: "read", path: path.to_owned(), source };
        let damaged = |problem| ClickStateError::Damaged { path: path.to_owned(), problem };
        let size = fs::metadata(path).map_err(io)?.len();
        if size > MAX_BYTES {
            return Err(damaged("larger than any click model"));
        }
        let bytes = fs::read(path).map_err(io)?;
        if !bytes.starts_with(MAGIC) {
            return Err(ClickStateError::Foreign { path: path.to_owned() });
        }
        let mut rest = Rest(&bytes[MAGIC.len()..]);
        let found = rest.u32().ok_or_else(|| damaged("it ends early"))?;
        if found != VERSION {
            return Err(ClickStateError::Version { path: path.to_owned(), found });
        }
        let (body, crc) = bytes.split_last_chunk::<4>().ok_or_else(|| damaged("it ends early"))?;
        if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
            return Err(damaged("the checksum does not match"));
        }
        let mut rest = Rest(&body[MAGIC.len() + 4..]);
        self.restore(&mut rest, path)?.ok_or_else(|| damaged("its parts do not add up"))
    }
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::super::features::ClickFeatures;
    use super::super::model::Example;
    use super::*;

    fn config() -> ClickConfig {
        ClickConfig { bits: 12, calibration_window: 1000, ..ClickConfig::default() }
    }

    fn open(path: &Path) -> (ClickModel, Option<ClickStateError>) {
        ClickModel::open(config(), ClickPrior::default(), path).expect("sound")
    }

    /// A log of outcomes; what was shown does not depend on the state of a model.
    fn log(count: u64) -> Vec<Example> {
        let template = ClickModel::new(config(), ClickPrior::default()).expect("sound");
        let one = |sequence| {
            let ad = format!("ad{}", sequence % 17);
            let slot = (sequence % 2) as usize;
            let features = ClickFeatures { ad: &ad, advertiser: &ad[..3], slot, ..ClickFeatures::default() };
            let shown = template.shown(&features, (sequence % 9) as f64, [1.0, 0.6][slot]);
            Example { sequence, shown, clicked: sequence % 13 == 0, weight: 1.0 }
        };
        (1..=count).map(one).collect()
    }

    #[test]
    fn restarts_leave_no_trace() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("clicks.state");
        let log = log(3000);
        let (whole, problem) = open(&dir.path().join("absent"));
        assert!(problem.is_none(), "a first start is no problem");
        for example in &log {
            whole.learn(example).expect("sound");
        }
        // Saved now and then, killed between, replayed from a little before the last save.
        for end in [700, 701, 1900, 3000] {
            let (model, problem) = open(&path);
            assert!(problem.is_none(), "{problem:?}");
            let from = (model.last_sequence() as usize).saturating_sub(50);
            for example in &log[from..end] {
                model.learn(example).expect("sound");
            }
            model.save(&path).expect("saved");
            for example in &log[end..(end + 100).min(log.len())] {
                model.learn(example).expect("sound");
            }
        }
        let (model, _) = open(&path);
        assert!(model.to_bytes() == whole.to_bytes(), "bit for bit");
        model.refresh_calibration();
        model.save(&path).expect("saved");
        assert_eq!(open(&path).0.calibration(), model.calibration());
        assert!(!beside(&path).exists());
    }

    #[test]
    fn a_file_of_no_use_is_named_and_left_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("clicks.state");
        let (model, _) = open(&path);
        for example in log(100) {
            model.learn(&example).expect("sound");
        }
        model.save(&path).expect("saved");
        let bytes = fs::read(&path).expect("there");
        let check = |changed: &[u8], expected: &str| {
            fs::write(&path, changed).expect("written");
            let (model, problem) = open(&path);
            let told = problem.expect("a problem").to_string();
            assert!(told.contains(expected) && told.contains("clicks.state"), "{told}");
            assert_eq!(model.last_sequence(), 0);
            assert!(
                model.to_bytes()
                    == ClickModel::new(config(), ClickPrior::default()).expect("sound").to_bytes()
            );
        };
        check(b"something else", "not a click model");
        check(&[&MAGIC[..], &9_u32.to_le_bytes()].concat(), "format 9");
        for at in (12..bytes.len()).step_by(97) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            check(&damaged, "damaged");
        }
        for end in [12, 100, bytes.len() - 1] {
            check(&bytes[..end], "damaged");
        }
        // A right checksum over parts that do not add up.
        let mut short = bytes[..bytes.len() - 20].to_vec();
        short.extend(crc32fast::hash(&short).to_le_bytes());
        check(&short, "do not add up");

        fs::write(&path, &bytes).expect("written");
        let other = ClickConfig { alpha: 0.25, ..config() };
        let (_, problem) = ClickModel::open(other, ClickPrior::default(), &path).expect("sound");
        assert!(problem.is_some_and(|problem| problem.to_string().contains("clicks.alpha 0.07")));
    }
}
