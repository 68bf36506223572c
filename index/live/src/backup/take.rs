//! Making a snapshot.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bowerbird_posts::PostStore;

use super::files::{
    copy, link_or_copy, measure, require_room, same_device, sync_directories, sync_directory, walk,
};
use super::manifest::{FORMAT, SnapshotFile, SnapshotManifest};
use crate::layout::{self, DataDir};
use crate::{GenerationSpec, Live, LiveError};

/// The one file of an index that is appended to: copied, never linked.
const VECTOR_LOG: &str = "vectors.log";
/// Times an index is taken anew because a merge or a new graph replaced its files meanwhile.
const ATTEMPTS: usize = 20;
/// Longest name of a snapshot, in bytes.
const NAME_BYTES: usize = 64;

/// What was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotContents {
    /// Last transaction of the post store in it.
    pub sequence: u64,
    /// The ordinal that the next new text gets.
    pub next_ordinal: u32,
    /// Live posts.
    pub posts: u64,
}

/// Refuses a name that is not 1 to 64 of `a-z`, `A-Z`, `0-9`, `.`, `_` and `-`, beginning with a letter or digit.
pub fn check_snapshot_name(name: &str) -> Result<(), LiveError> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let fits = (1..=NAME_BYTES).contains(&name.len());
    if fits && name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(good) {
        return Ok(());
    }
    Err(LiveError::SnapshotName { found: name.chars().take(80).collect() })
}

/// A snapshot that is being made, under a name of its own. Dropping it removes it.
#[derive(Debug)]
pub struct SnapshotDraft {
    name: String,
    temporary: PathBuf,
    target: PathBuf,
    created_at: jiff::Timestamp,
    finished: bool,
}

impl SnapshotDraft {
    /// Begins the snapshot that will be `target`, which must not exist; what an earlier attempt of this name left is
    /// removed.
    pub fn begin(target: &Path) -> Result<Self, LiveError> {
        let name = target.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        if name.is_empty() {
            return Err(LiveError::SnapshotName { found: target.display().to_string() });
        }
        if target.try_exists().map_err(LiveError::io("look for", target))? {
            return Err(LiveError::SnapshotExists { path: target.to_path_buf() });
        }
        let home = parent(target);
        fs::create_dir_all(home).map_err(LiveError::io("create", home))?;
        let temporary = home.join(format!(".{name}.partial"));
        layout::remove(&temporary)?;
        create_private(&temporary).map_err(LiveError::io("create", &temporary))?;
        Ok(Self {
            name,
            temporary,
            target: target.to_path_buf(),
            created_at: jiff::Timestamp::now(),
            finished: false,
        })
    }

    /// Where its files go; the caller may add some before [`finish`](Self::finish).
    pub fn dir(&self) -> &Path {
        &self.temporary
    }

    /// Writes the manifest, makes everything durable and gives the snapshot its name.
    pub fn finish(mut self, contents: SnapshotContents) -> Result<SnapshotManifest, LiveError> {
        let mut files = Vec::new();
        for relative in walk(&self.temporary)? {
            let path = self.temporary.join(&relative);
            let (bytes, crc32) = measure(&path)
                .and_then(|measured| File::open(&path)?.sync_all().map(|()| measured))
                .map_err(LiveError::io("read", &path))?;
            let parts: Vec<_> = relative.iter().map(|part| part.to_string_lossy()).collect();
            files.push(SnapshotFile { path: parts.join("/"), bytes, crc32 });
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let manifest = SnapshotManifest {
            format: FORMAT,
            name: self.name.clone(),
            created_at: self.created_at,
            sequence: contents.sequence,
            next_ordinal: contents.next_ordinal,
            posts: contents.posts,
            bytes: files.iter().map(|file| file.bytes).sum(),
            files,
        };
        manifest.write(&self.temporary)?;
        sync_directories(&self.temporary)?;
        if self.target.try_exists().map_err(LiveError::io("look for", &self.target))? {
            return Err(LiveError::SnapshotExists { path: self.target.clone() });
        }
        fs::rename(&self.temporary, &self.target).map_err(LiveError::io("rename", &self.temporary))?;
        self.finished = true;
        sync_directory(parent(&self.target))?;
        Ok(manifest)
    }
}

impl Drop for SnapshotDraft {
    fn drop(&mut self) {
        if !self.finished
            && let Err(error) = layout::remove(&self.temporary)
        {
            tracing::warn!(%error, "an unfinished snapshot stays behind");
        }
    }
}

impl Live {
    /// Copies posts and indexes into `draft` as of one transaction, while writes and searches go on. Blocks for as
    /// long as copying takes; fails with [`LiveError::NoRoom`] before it begins when there is too little space.
    pub fn copy_to(&self, draft: &SnapshotDraft) -> Result<SnapshotContents, LiveError> {
        let stores = self.stores();
        copy_generation(&stores.dir, &stores.posts, draft.dir())
    }
}

/// As [`Live::copy_to`], for the data directory `root` that no process has open.
pub fn copy_closed(root: &Path, draft: &SnapshotDraft) -> Result<SnapshotContents, LiveError> {
    fs::metadata(root).map_err(LiveError::io("read", root))?;
    let dir = DataDir::open(root)?;
    let posts = PostStore::open(&dir.posts())?;
    copy_generation(&dir, &posts, draft.dir())
}

fn copy_generation(dir: &DataDir, posts: &PostStore, into: &Path) -> Result<SnapshotContents, LiveError> {
    let current = dir.generation(dir.current());
    let (lexical, vector) = (current.join("lexical"), current.join("vector"));
    let spec = GenerationSpec::read(&current)?;
    let mut need = posts.file_bytes()? + size(&vector.join(VECTOR_LOG));
    if !same_device(dir.root(), into) {
        for index in [&lexical, &vector] {
            let files = if index.is_dir() { walk(index)? } else { Vec::new() };
            need += files.iter().map(|file| size(&index.join(file))).sum::<u64>();
        }
    }
    require_room(into, need)?;
    // The indexes first: what they have is in the post store by then. A snapshot has one generation, the first.
    let generation = layout::generation_dir(into, 1);
    taken_whole(&vector, &generation.join("vector"), &|_| Ok(None))?;
    taken_whole(&lexical, &generation.join("lexical"), &committed_segments)?;
    fs::create_dir_all(&generation).map_err(LiveError::io("create", &generation))?;
    spec.write(&generation)?;
    let copied = posts.copy_to(&into.join("posts"))?;
    let format = into.join("FORMAT");
    copy(&mut layout::FORMAT.as_bytes(), &format).map_err(LiveError::io("write", &format))?;
    Ok(SnapshotContents {
        sequence: copied.sequence,
        next_ordinal: copied.next_ordinal.0,
        posts: copied.posts,
    })
}

/// Names of the segments in a lexical index's `meta.json`, and its bytes.
struct Committed {
    meta: Vec<u8>,
    segments: Vec<String>,
}

/// Reads the list of committed segments; none when `dir` has none.
fn committed_segments(dir: &Path) -> io::Result<Option<Committed>> {
    #[derive(serde::Deserialize)]
    struct Meta {
        segments: Vec<Segment>,
    }
    #[derive(serde::Deserialize)]
    struct Segment {
        segment_id: String,
    }
    let meta = match fs::read(dir.join(META)) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let parsed: Meta = serde_json::from_slice(&meta)?;
    let segments = parsed.segments.into_iter().map(|segment| segment.segment_id.replace('-', "")).collect();
    Ok(Some(Committed { meta, segments }))
}

const META: &str = "meta.json";
/// tantivy's list of the files it may delete: made anew for what a snapshot holds.
const MANAGED: &str = ".managed.json";

/// Takes the files of an index directory as they are at one moment: all are opened before any is copied, and when
/// one has gone meanwhile everything is begun again.
fn taken_whole(
    from: &Path,
    to: &Path,
    committed: &dyn Fn(&Path) -> io::Result<Option<Committed>>,
) -> Result<(), LiveError> {
    if !from.is_dir() {
        return Ok(());
    }
    let mut attempt = 0;
    let (committed, files) = loop {
        match open_all(from, committed) {
            Ok(opened) => break opened,
            Err(LiveError::Io { source, .. })
                if source.kind() == io::ErrorKind::NotFound && attempt < ATTEMPTS =>
            {
                attempt += 1;
            }
            Err(error) => return Err(error),
        }
    };
    fs::create_dir_all(to).map_err(LiveError::io("create", to))?;
    let mut names = Vec::new();
    for (relative, mut file) in files {
        let (source, target) = (from.join(&relative), to.join(&relative));
        let home = parent(&target);
        fs::create_dir_all(home).map_err(LiveError::io("create", home))?;
        if relative == Path::new(VECTOR_LOG) {
            // No further than it is now: it may grow while it is copied.
            let length = file.metadata().map_err(LiveError::io("measure", &source))?.len();
            copy(&mut file.take(length), &target).map_err(LiveError::io("copy", &source))?;
        } else {
            link_or_copy(&source, &mut file, &target).map_err(LiveError::io("copy", &source))?;
        }
        // tantivy deletes what it manages and no segment needs: files that are not its own must not be named.
        if is_segment_file(&relative) {
            names.push(relative);
        }
    }
    if let Some(committed) = committed {
        names.push(PathBuf::from(META));
        let managed = serde_json::to_vec(&names).unwrap_or_else(|_| b"[]".to_vec());
        for (name, bytes) in [(META, committed.meta), (MANAGED, managed)] {
            let target = to.join(name);
            copy(&mut bytes.as_slice(), &target).map_err(LiveError::io("write", &target))?;
        }
    }
    Ok(())
}

type Opened = (Option<Committed>, Vec<(PathBuf, File)>);

/// The committed files of an index, open.
fn open_all(
    from: &Path,
    committed: &dyn Fn(&Path) -> io::Result<Option<Committed>>,
) -> Result<Opened, LiveError> {
    let committed = committed(from).map_err(LiveError::io("read", &from.join(META)))?;
    let mut files = Vec::new();
    for relative in walk(from)? {
        let name = relative.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if !wanted(&relative, name, committed.as_ref()) {
            continue;
        }
        let path = from.join(&relative);
        let file = File::open(&path).map_err(LiveError::io("open", &path))?;
        files.push((relative, file));
    }
    // Files of a commit are deleted only after the next one is written: the same list as before means all are here.
    if let Some(committed) = &committed {
        let path = from.join(META);
        if fs::read(&path).map_err(LiveError::io("read", &path))? != committed.meta {
            let source = io::Error::new(io::ErrorKind::NotFound, "the index was committed meanwhile");
            return Err(LiveError::io("read", &path)(source));
        }
    }
    Ok((committed, files))
}

/// Leaves out locks, unfinished files, and segments that are not committed.
fn wanted(relative: &Path, name: &str, committed: Option<&Committed>) -> bool {
    let unfinished = relative.iter().any(|part| {
        let part = part.to_string_lossy();
        part.ends_with(".tmp") || part.starts_with(".tmp") || part.ends_with(".lock")
    });
    if unfinished || name.ends_with(".damaged") {
        return false;
    }
    let Some(committed) = committed else { return true };
    if name == META || name == MANAGED {
        return false;
    }
    segment_of(name).is_none_or(|id| committed.segments.iter().any(|segment| segment == id))
}

/// The segment that a file of a lexical index belongs to; none for other files.
fn segment_of(name: &str) -> Option<&str> {
    name.get(..32).filter(|id| id.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn is_segment_file(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| segment_of(name).is_some())
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A directory that others may not read: posts and the signing key of ads are in it.
fn create_private(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_nowhere_else() {
        for name in ["a", "2026-01-02T03.04", "before_upgrade-1", &"x".repeat(64)] {
            check_snapshot_name(name).expect(name);
        }
        for name in ["", ".", "..", ".hidden", "a/b", "a\\b", "ä", "a b", "-x", "a\0", &"x".repeat(65)] {
            assert!(check_snapshot_name(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn uncommitted_segments_locks_and_unfinished_files_stay_behind() {
        let id = "0123456789abcdef0123456789abcdef";
        let other = "ffff456789abcdef0123456789abcdef";
        let committed = Committed { meta: Vec::new(), segments: vec![id.to_owned()] };
        let takes = |path: &str| {
            let name = path.rsplit('/').next().expect("a name");
            wanted(Path::new(path), name, Some(&committed))
        };
        assert!(takes(&format!("{id}.idx")) && takes("lexical.format") && takes(&format!("{id}.4.del")));
        for path in [&format!("{other}.idx")[..], ".tantivy-writer.lock", META, MANAGED, ".tmpXyz"] {
            assert!(!takes(path), "{path}");
        }
        assert!(wanted(Path::new("segment/manifest"), "manifest", None));
        assert!(!wanted(Path::new("segment.tmp/manifest"), "manifest", None));
    }
}
