//! A GGUF file in 8 bits, made once from a smaller one.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use candle_core::Device;
use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use crate::LlmError;
use crate::gguf::GgufFile;

/// `general.file_type` of a file whose matrices are mostly Q8_0.
const MOSTLY_Q8_0: u32 = 7;

/// Writes `from` to `to` with every quantised tensor in Q8_0; float tensors, Q8_0 tensors and metadata stay as
/// they are (but for `general.file_type`). The new file appears whole or not at all. Needs memory for the new
/// file: 145 MB for SmolLM2-135M. The same input gives the same bytes.
pub fn requantize_q8_0(from: &Path, to: &Path) -> Result<(), LlmError> {
    let mut source = GgufFile::open(from)?;
    let mut names: Vec<(u64, String)> =
        source.content.tensor_infos.iter().map(|(name, info)| (info.offset, name.clone())).collect();
    names.sort_unstable();
    let mut tensors = Vec::with_capacity(names.len());
    for (_, name) in names {
        let tensor = source.tensor(&name)?;
        let tensor = match tensor.dtype() {
            GgmlDType::F32 | GgmlDType::F16 | GgmlDType::BF16 | GgmlDType::Q8_0 => tensor,
            _ => tensor
                .dequantize(&Device::Cpu)
                .and_then(|values| QTensor::quantize(&values, GgmlDType::Q8_0))
                .map_err(|error| source.tensor_error(&name, error.to_string()))?,
        };
        tensors.push((name, tensor));
    }
    let mut metadata: BTreeMap<&str, &Value> =
        source.content.metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
    let file_type = Value::U32(MOSTLY_Q8_0);
    metadata.insert("general.file_type", &file_type);
    let metadata: Vec<(&str, &Value)> = metadata.into_iter().collect();
    let tensors: Vec<(&str, &QTensor)> =
        tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    replace(to, |file| gguf_file::write(file, &metadata, &tensors).map_err(std::io::Error::other))
}

/// The Q8_0 version of `q4_1` in `cache_dir`, made when it is not there or damaged.
///
/// Its name carries the SHA-256 of the source, and a file beside it (`….sha256`) its own, which is checked. Two
/// processes may do this at once; both get a whole file.
pub fn ensure_q8_0(q4_1: &Path, cache_dir: &Path) -> Result<PathBuf, LlmError> {
    let source = sha256(q4_1)?;
    let stem = q4_1.file_stem().map_or_else(|| "model".into(), |stem| stem.to_string_lossy());
    let target = cache_dir.join(format!("{stem}-as-q8_0-{}.gguf", &source[..16]));
    let sidecar = target.with_extension("gguf.sha256");
    match std::fs::read_to_string(&sidecar) {
        Ok(expected) => match intact(&target, expected.trim()) {
            Ok(()) => return Ok(target),
            Err(error) => tracing::warn!(%error, "the converted model is damaged and will be made again"),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => {
            tracing::warn!(path = %sidecar.display(), %error, "cannot read the checksum of the converted model");
        }
    }
    std::fs::create_dir_all(cache_dir)
        .map_err(|source| LlmError::Write { path: cache_dir.to_owned(), source })?;
    requantize_q8_0(q4_1, &target)?;
    let found = sha256(&target)?;
    replace(&sidecar, |file| writeln!(file, "{found}"))?;
    intact(&target, &found)?;
    Ok(target)
}

/// Whether the file has the checksum and opens.
fn intact(path: &Path, expected: &str) -> Result<(), LlmError> {
    let found = sha256(path)?;
    if found != expected {
        return Err(LlmError::Damaged {
            path: path.to_owned(),
            message: format!("its SHA-256 is {found}, expected {expected}"),
        });
    }
    GgufFile::open(path).map(drop)
}

/// SHA-256 of a file, in hexadecimal.
fn sha256(path: &Path) -> Result<String, LlmError> {
    let mut hash = Sha256::new();
    File::open(path)
        .and_then(|mut file| std::io::copy(&mut file, &mut hash))
        .map_err(|source| LlmError::Read { path: path.to_owned(), source })?;
    Ok(hex::encode(hash.finalize()))
}

/// Writes a file beside `path`, makes it durable and renames it over `path`.
fn replace(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<&mut File>) -> std::io::Result<()>,
) -> Result<(), LlmError> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let attempt = || {
        let mut temporary = NamedTempFile::new_in(directory)?;
        let mut buffered = BufWriter::with_capacity(1 << 20, temporary.as_file_mut());
        write(&mut buffered)?;
        buffered.flush()?;
        drop(buffered);
        temporary.as_file().sync_all()?;
        temporary.persist(path).map_err(|error| error.error)?;
        #[cfg(unix)]
        File::open(directory)?.sync_all()?;
        Ok(())
    };
    attempt().map_err(|source| LlmError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use candle_core::Tensor;

    use super::*;

    /// A file with one Q4_1 matrix, one F32 vector and one Q8_0 matrix.
    fn write_source(path: &Path) {
        let values: Vec<f32> = (0..256).map(|i| (i as f32 / 9.0).sin()).collect();
        let tensor = |dtype| {
            let values = Tensor::from_vec(values.clone(), (4, 64), &Device::Cpu).expect("a tensor");
            QTensor::quantize(&values, dtype).expect("quantises")
        };
        let (small, float, eight) =
            (tensor(GgmlDType::Q4_1), tensor(GgmlDType::F32), tensor(GgmlDType::Q8_0));
        let (name, kind) = (Value::String("a model".to_owned()), Value::U32(3));
        let mut out = Cursor::new(Vec::new());
        gguf_file::write(
            &mut out,
            &[("general.name", &name), ("general.file_type", &kind)],
            &[("small", &small), ("float", &float), ("eight", &eight)],
        )
        .expect("writes");
        std::fs::write(path, out.into_inner()).expect("written");
    }

    fn values(file: &mut GgufFile, name: &str) -> Vec<f32> {
        let mut all = Vec::new();
        file.each_rows(name, (4, 64), |part| all.extend_from_slice(part)).expect("reads");
        all
    }

    #[test]
    fn only_small_tensors_change() {
        let directory = tempfile::tempdir().expect("a directory");
        let (from, to) = (directory.path().join("a.gguf"), directory.path().join("b.gguf"));
        write_source(&from);
        requantize_q8_0(&from, &to).expect("converts");
        let (mut before, mut after) =
            (GgufFile::open(&from).expect("opens"), GgufFile::open(&to).expect("opens"));
        let kind = |file: &GgufFile, name: &str| file.content.tensor_infos[name].ggml_dtype;
        assert_eq!(kind(&after, "small"), GgmlDType::Q8_0);
        assert_eq!(kind(&after, "float"), GgmlDType::F32);
        assert_eq!(after.text("general.name").expect("kept"), "a model");
        assert_eq!(after.integer("general.file_type").expect("kept"), 7);
        for (name, tolerance) in [("small", 0.01), ("float", 0.0), ("eight", 0.0)] {
            let worst = values(&mut before, name)
                .iter()
                .zip(values(&mut after, name))
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f32::max);
            assert!(worst <= tolerance, "{name} moved by {worst}");
        }
    }

    #[test]
    fn the_cached_file_is_reused_and_repaired() {
        let directory = tempfile::tempdir().expect("a directory");
        let from = directory.path().join("model-q4_1.gguf");
        let cache = directory.path().join("new/cache");
        write_source(&from);
        let made = ensure_q8_0(&from, &cache).expect("converts");
        let bytes = std::fs::read(&made).expect("there");
        let time = std::fs::metadata(&made).and_then(|m| m.modified()).expect("a time");
        assert_eq!(ensure_q8_0(&from, &cache).expect("again"), made);
        assert_eq!(
            std::fs::metadata(&made).and_then(|m| m.modified()).expect("a time"),
            time,
            "not written again"
        );

        let mut damaged = bytes.clone();
        *damaged.last_mut().expect("bytes") ^= 1;
        std::fs::write(&made, &damaged).expect("written");
        assert_eq!(ensure_q8_0(&from, &cache).expect("repairs"), made);
        assert_eq!(std::fs::read(&made).expect("there"), bytes, "one flipped bit is noticed");
        std::fs::remove_file(&made).expect("removed");
        assert_eq!(ensure_q8_0(&from, &cache).expect("makes"), made);

        let left: Vec<_> = std::fs::read_dir(&cache).expect("a directory").collect();
        assert_eq!(left.len(), 2, "no temporary file is left: {left:?}");
        std::fs::write(&from, b"GGUF and nothing else").expect("written");
        assert!(matches!(ensure_q8_0(&from, &cache), Err(LlmError::Damaged { .. })));
    }
}
