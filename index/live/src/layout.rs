//! The files of a data directory.
//!
//! ```text
//! FORMAT               "bowerbird data 1\n"
//! LOCK                 empty; locked while a process uses the directory
//! CURRENT              number of the generation that serves; 1 when absent
//! posts/               the post store, the source of truth, one for all generations
//! generation/          generation 1; others are generation-2/, generation-3/ …
//!   generation.json    what it is made with; the defaults when absent
//!   lexical/           lexical index   } caches: made again from the posts
//!   vector/            vector index    }
//! ```
//!
//! Ordinals belong to the post store, so every generation numbers the same versions of the same posts alike.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::LiveError;

/// What the file `FORMAT` holds.
pub const FORMAT: &str = "bowerbird data 1\n";

/// A data directory this process has to itself until the value is dropped.
#[derive(Debug)]
pub(crate) struct DataDir {
    root: PathBuf,
    current: AtomicU32,
    /// The lock ends when the file is closed.
    _lock: File,
}

impl DataDir {
    /// Makes the directory when absent, locks it, and checks or writes its format.
    pub fn open(root: &Path) -> Result<Self, LiveError> {
        fs::create_dir_all(root).map_err(LiveError::io("create", root))?;
        let path = root.join("LOCK");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(LiveError::io("open", &path))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => LiveError::Locked { path: path.clone() },
            TryLockError::Error(source) => LiveError::Io { action: "lock", path: path.clone(), source },
        })?;
        check_format(root)?;
        let current = read_current(root)?;
        let dir = Self { root: root.to_path_buf(), current: AtomicU32::new(current), _lock: lock };
        let generation = dir.generation(current);
        fs::create_dir_all(&generation).map_err(LiveError::io("create", &generation))?;
        Ok(dir)
    }

    /// The generation that serves.
    pub fn current(&self) -> u32 {
        self.current.load(Ordering::Acquire)
    }

    /// Makes `number` the generation that serves, durably, in one step.
    pub fn set_current(&self, number: u32) -> Result<(), LiveError> {
        write_durably(&self.root, "CURRENT", format!("{number}\n").as_bytes())?;
        self.current.store(number, Ordering::Release);
        Ok(())
    }

    /// Directory of a generation.
    pub fn generation(&self, number: u32) -> PathBuf {
        generation_dir(&self.root, number)
    }

    /// Makes the directory of a generation, which appears with what `fill` writes into it or not at all.
    pub fn make_generation(
        &self,
        number: u32,
        fill: impl FnOnce(&Path) -> Result<(), LiveError>,
    ) -> Result<(), LiveError> {
        let (dir, fresh) = (self.generation(number), self.root.join(format!("generation-{number}.tmp")));
        remove(&fresh)?;
        fs::create_dir(&fresh).map_err(LiveError::io("create", &fresh))?;
        fill(&fresh)?;
        fs::rename(&fresh, &dir).map_err(LiveError::io("rename", &fresh))?;
        sync(&self.root)
    }

    /// Numbers of the generations that have a directory, ascending.
    pub fn generations(&self) -> Result<Vec<u32>, LiveError> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.root).map_err(LiveError::io("read", &self.root))? {
            let name = entry.map_err(LiveError::io("read", &self.root))?.file_name();
            numbers.extend(name.to_str().and_then(generation_number));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn posts(&self) -> PathBuf {
        self.root.join("posts")
    }

    /// Lexical index of the generation that serves.
    pub fn lexical(&self) -> PathBuf {
        self.generation(self.current()).join("lexical")
    }

    /// Vector index of the generation that serves.
    pub fn vector(&self) -> PathBuf {
        self.generation(self.current()).join("vector")
    }
}

pub(crate) fn generation_dir(root: &Path, number: u32) -> PathBuf {
    if number == 1 { root.join("generation") } else { root.join(format!("generation-{number}")) }
}

fn generation_number(name: &str) -> Option<u32> {
    if name == "generation" {
        return Some(1);
    }
    let digits = name.strip_prefix("generation-")?;
    let number: u32 = digits.parse().ok()?;
    (number > 1 && number.to_string() == digits).then_some(number)
}

/// The generation that serves, as the file `CURRENT` says.
pub(crate) fn read_current(root: &Path) -> Result<u32, LiveError> {
    let path = root.join("CURRENT");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(1),
        Err(error) => return Err(LiveError::io("read", &path)(error)),
    };
    match text.trim_end().parse::<u32>() {
        Ok(number) if number > 0 && (number == 1 || generation_dir(root, number).is_dir()) => Ok(number),
        _ => Err(LiveError::Format {
            path,
            expected: "the number of a generation that is there".into(),
            found: text.chars().take(40).collect(),
        }),
    }
}

/// Writes a small file whole or not at all, durable at return.
pub(crate) fn write_durably(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), LiveError> {
    let temporary = dir.join(format!("{name}.tmp"));
    File::create(&temporary)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .map_err(LiveError::io("write", &temporary))?;
    fs::rename(&temporary, dir.join(name)).map_err(LiveError::io("rename", &temporary))?;
    sync(dir)
}

/// Makes the names in a directory durable.
fn sync(dir: &Path) -> Result<(), LiveError> {
    if cfg!(unix) {
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(LiveError::io("sync", dir))?;
    }
    Ok(())
}

fn check_format(root: &Path) -> Result<(), LiveError> {
    let path = root.join("FORMAT");
    match File::open(&path) {
        Ok(file) => {
            let mut found = Vec::new();
            file.take(64).read_to_end(&mut found).map_err(LiveError::io("read", &path))?;
            if found == FORMAT.as_bytes() {
                return Ok(());
            }
            let found = String::from_utf8_lossy(&found).into_owned();
            Err(LiveError::Format { path, expected: FORMAT.to_owned(), found })
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            write_durably(root, "FORMAT", FORMAT.as_bytes())
        }
        Err(source) => Err(LiveError::Io { action: "open", path, source }),
    }
}

/// Removes a `FORMAT` that says nothing of a version, to be written again; one of another version stays.
pub(crate) fn mend_format(root: &Path) -> Result<bool, LiveError> {
    let path = root.join("FORMAT");
    let found = match fs::read(&path) {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(LiveError::io("read", &path)(error)),
    };
    let text = String::from_utf8_lossy(&found);
    let version = text.strip_prefix("bowerbird data ").and_then(|rest| rest.strip_suffix('\n'));
    if version.is_some_and(|version| version.parse::<u32>().is_ok()) {
        return Ok(false);
    }
    fs::remove_file(&path).map_err(LiveError::io("remove", &path))?;
    Ok(true)
}

/// Removes a directory of the generation, to be made again.
pub(crate) fn remove(path: &Path) -> Result<(), LiveError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(LiveError::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_generation_serves_and_it_is_there() {
        let root = tempfile::tempdir().expect("temporary directory");
        let dir = DataDir::open(root.path()).expect("opens");
        assert_eq!((dir.current(), dir.lexical()), (1, root.path().join("generation/lexical")));
        for name in ["generation-3", "generation-03", "generation-1", "generation-4.tmp", "generations"] {
            fs::create_dir(root.path().join(name)).expect("made");
        }
        assert_eq!(dir.generations().expect("listed"), [1, 3]);
        dir.set_current(3).expect("set");
        drop(dir);
        let dir = DataDir::open(root.path()).expect("opens");
        assert_eq!((dir.current(), dir.vector()), (3, root.path().join("generation-3/vector")));
        drop(dir);
        for bad in ["4\n", "0\n", "", "x\n"] {
            fs::write(root.path().join("CURRENT"), bad).expect("written");
            assert!(matches!(DataDir::open(root.path()), Err(LiveError::Format { .. })), "{bad:?}");
        }
    }

    #[test]
    fn one_holder_at_a_time_and_only_this_format() {
        let root = tempfile::tempdir().expect("temporary directory");
        let held = DataDir::open(root.path()).expect("opens");
        assert!(matches!(DataDir::open(root.path()), Err(LiveError::Locked { .. })));
        drop(held);
        drop(DataDir::open(root.path()).expect("free again"));
        fs::write(root.path().join("FORMAT"), "bowerbird data 2\n").expect("written");
        match DataDir::open(root.path()) {
            Err(LiveError::Format { found, .. }) => assert_eq!(found, "bowerbird data 2\n"),
            other => panic!("{other:?}"),
        }
    }
}
