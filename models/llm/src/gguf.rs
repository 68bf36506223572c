//! Reading a GGUF file without trusting it: the header is bounded, every tensor is checked against the size of
//! the file before anything is allocated for it, and tensors are read a few rows at a time.

use std::fs::File;
use std::io::{Cursor, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use candle_core::quantized::QTensor;
use candle_core::quantized::gguf_file::{Content, TensorInfo, Value};
use candle_core::{Device, Shape};

use crate::LlmError;

/// Longest accepted header. Vocabularies of a quarter of a million tokens need about 12 MiB.
const MAX_HEADER_BYTES: u64 = 32 << 20;
/// Most elements of one tensor: a vocabulary of 2^20 tokens with 2^12 dimensions.
const MAX_TENSOR_ELEMENTS: usize = 1 << 32;

/// An open GGUF file whose header has been checked.
pub(crate) struct GgufFile {
    pub(crate) path: PathBuf,
    pub(crate) content: Content,
    file: File,
}

impl GgufFile {
    /// Opens `path` and checks its header and the extent of every tensor.
    pub(crate) fn open(path: &Path) -> Result<Self, LlmError> {
        let read_error = |source| LlmError::Read { path: path.to_owned(), source };
        let damaged = |message: String| LlmError::Damaged { path: path.to_owned(), message };
        let mut file = File::open(path).map_err(read_error)?;
        let file_bytes = file.metadata().map_err(read_error)?.len();
        let mut header = Vec::new();
        (&mut file).take(MAX_HEADER_BYTES).read_to_end(&mut header).map_err(read_error)?;
        match header.get(..4) {
            Some(b"GGUF") => {}
            Some(other) => {
                return Err(damaged(format!(
                    "it begins with {:?}, expected \"GGUF\"",
                    other.escape_ascii().to_string()
                )));
            }
            None => return Err(damaged(format!("it has {} bytes", header.len()))),
        }
        // The reader divides by an alignment that the file states; a panic is a damaged file like any other.
        let content = catch_unwind(AssertUnwindSafe(|| Content::read(&mut Cursor::new(&header))))
            .map_err(|_| damaged("its header is inconsistent".to_owned()))?
            .map_err(|error| damaged(format!("its header is cut short or inconsistent ({error})")))?;
        for (name, info) in &content.tensor_infos {
            check_extent(info, content.tensor_data_offset, file_bytes)
                .map_err(|message| damaged(format!("tensor {name} {message}")))?;
        }
        Ok(Self { path: path.to_owned(), content, file })
    }

    /// A non-negative integer of the header.
    pub(crate) fn integer(&self, key: &str) -> Result<usize, LlmError> {
        let value = self.value(key)?;
        value
            .to_u64()
            .ok()
            .or_else(|| value.to_i32().ok().and_then(|v| u64::try_from(v).ok()))
            .and_then(|v| usize::try_from(v).ok())
            .ok_or_else(|| self.metadata_error(key, "expected a non-negative integer"))
    }

    /// A finite number of the header.
    pub(crate) fn number(&self, key: &str) -> Result<f32, LlmError> {
        self.value(key)?
            .to_f32()
            .ok()
            .filter(|v| v.is_finite())
            .ok_or_else(|| self.metadata_error(key, "expected a finite number"))
    }

    /// A text of the header.
    pub(crate) fn text(&self, key: &str) -> Result<&str, LlmError> {
        match self.value(key)? {
            Value::String(text) => Ok(text),
            _ => Err(self.metadata_error(key, "expected a text")),
        }
    }

    /// A list of the header.
    pub(crate) fn list(&self, key: &str) -> Result<&[Value], LlmError> {
        match self.value(key)? {
            Value::Array(list) => Ok(list),
            _ => Err(self.metadata_error(key, "expected a list")),
        }
    }

    /// Whether the header holds `key`.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.content.metadata.contains_key(key)
    }

    fn value(&self, key: &str) -> Result<&Value, LlmError> {
        self.content.metadata.get(key).ok_or_else(|| self.metadata_error(key, "it is absent"))
    }

    pub(crate) fn metadata_error(&self, key: &str, message: &str) -> LlmError {
        LlmError::Metadata { path: self.path.clone(), key: key.to_owned(), message: message.to_owned() }
    }

    pub(crate) fn tensor_error(&self, name: &str, message: String) -> LlmError {
        LlmError::Tensor { path: self.path.clone(), name: name.to_owned(), message }
    }

    /// Rows and columns of a tensor; a vector is one row.
    pub(crate) fn shape(&self, name: &str) -> Result<(usize, usize), LlmError> {
        let info = self.info(name)?;
        match *info.shape.dims() {
            [cols] => Ok((1, cols)),
            [rows, cols] => Ok((rows, cols)),
            ref other => {
                Err(self.tensor_error(name, format!("it has {} dimensions, expected 1 or 2", other.len())))
            }
        }
    }

    /// Calls `visit` with the values of `name`, whole rows at a time and in order, after checking that it has
    /// `rows` rows of `cols`. At most about four million values are in memory at once.
    pub(crate) fn each_rows(
        &mut self,
        name: &str,
        (rows, cols): (usize, usize),
        mut visit: impl FnMut(&[f32]),
    ) -> Result<(), LlmError> {
        let found = self.shape(name)?;
        if found != (rows, cols) {
            return Err(self.tensor_error(
                name,
                format!("its shape is {} x {}, expected {rows} x {cols}", found.0, found.1),
            ));
        }
        let (dtype, offset) = self.info(name).map(|info| (info.ggml_dtype, info.offset))?;
        let step = ((4 << 20) / cols).clamp(1, rows);
        for start in (0..rows).step_by(step) {
            let count = step.min(rows - start);
            let before = (start * cols / dtype.block_size() * dtype.type_size()) as u64;
            let part =
                TensorInfo { ggml_dtype: dtype, shape: Shape::from((count, cols)), offset: offset + before };
            let values = part
                .read(&mut self.file, self.content.tensor_data_offset, &Device::Cpu)
                .and_then(|tensor| tensor.dequantize(&Device::Cpu))
                .and_then(|tensor| tensor.flatten_all()?.to_vec1::<f32>())
                .map_err(|error| self.tensor_error(name, error.to_string()))?;
            if values.iter().any(|v| !v.is_finite()) {
                return Err(self.tensor_error(name, "it holds a value that is not finite".to_owned()));
            }
            visit(&values);
        }
        Ok(())
    }

    /// One whole tensor, as it is stored.
    pub(crate) fn tensor(&mut self, name: &str) -> Result<QTensor, LlmError> {
        self.content
            .tensor(&mut self.file, name, &Device::Cpu)
            .map_err(|error| self.tensor_error(name, error.to_string()))
    }

    /// All values of a vector of `len`.
    pub(crate) fn vector(&mut self, name: &str, len: usize) -> Result<Vec<f32>, LlmError> {
        let mut all = Vec::with_capacity(len);
        self.each_rows(name, (1, len), |part| all.extend_from_slice(part))?;
        Ok(all)
    }

    fn info(&self, name: &str) -> Result<&TensorInfo, LlmError> {
        self.content.tensor_infos.get(name).ok_or_else(|| self.tensor_error(name, "it is absent".to_owned()))
    }
}

/// Whole blocks per row, and an end within the file.
fn check_extent(info: &TensorInfo, data_offset: u64, file_bytes: u64) -> Result<(), String> {
    let dims = info.shape.dims();
    let elements = dims
        .iter()
        .try_fold(1usize, |product, &dim| product.checked_mul(dim))
        .filter(|&n| n > 0 && n <= MAX_TENSOR_ELEMENTS)
        .ok_or_else(|| format!("has the impossible shape {dims:?}"))?;
    let block = info.ggml_dtype.block_size();
    let cols = dims.last().copied().unwrap_or(1);
    if !cols.is_multiple_of(block) {
        return Err(format!("has rows of {cols} values, expected a multiple of {block}"));
    }
    let bytes = (elements / block * info.ggml_dtype.type_size()) as u64;
    match data_offset.checked_add(info.offset).and_then(|start| start.checked_add(bytes)) {
        Some(end) if end <= file_bytes => Ok(()),
        Some(end) => Err(format!("ends at byte {end}, the file has {file_bytes}: it was cut short")),
        None => Err(format!("begins at the impossible offset {}", info.offset)),
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Tensor;
    use candle_core::quantized::{GgmlDType, gguf_file};

    use super::*;

    fn small_file() -> Vec<u8> {
        let values: Vec<f32> = (0..128).map(|i| i as f32 / 64.0).collect();
        let tensor = Tensor::from_vec(values, (2, 64), &Device::Cpu).expect("a tensor");
        let tensor = QTensor::quantize(&tensor, GgmlDType::Q8_0).expect("quantises");
        let mut out = Cursor::new(Vec::new());
        let value = Value::U32(7);
        gguf_file::write(&mut out, &[("seven", &value)], &[("weights", &tensor)]).expect("writes");
        out.into_inner()
    }

    fn open_bytes(bytes: &[u8]) -> Result<GgufFile, LlmError> {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), bytes).expect("written");
        GgufFile::open(file.path())
    }

    #[test]
    fn reads_values_and_rows() {
        let mut gguf = open_bytes(&small_file()).expect("opens");
        assert_eq!(gguf.integer("seven").expect("there"), 7);
        assert!(matches!(gguf.text("seven"), Err(LlmError::Metadata { .. })));
        let mut sum = 0.0;
        gguf.each_rows("weights", (2, 64), |part| sum += part.iter().sum::<f32>()).expect("reads");
        assert!((sum - 127.0).abs() < 0.5, "{sum}");
        let error = gguf.each_rows("weights", (64, 2), |_| {}).expect_err("another shape");
        assert!(error.to_string().contains("2 x 64, expected 64 x 2"), "{error}");
        assert!(gguf.vector("absent", 1).expect_err("absent").to_string().contains("absent"));
    }

    #[test]
    fn every_truncation_is_refused_and_none_panics() {
        let whole = small_file();
        let data_start = open_bytes(&whole).expect("opens").content.tensor_data_offset as usize;
        let data_end = data_start + 128 / 32 * 34;
        for len in 0..data_end {
            assert!(open_bytes(&whole[..len]).is_err(), "{len} of {} bytes were accepted", whole.len());
        }
    }

    #[test]
    fn flipped_header_bytes_never_panic() {
        let whole = small_file();
        for at in 0..whole.len() {
            for value in [0u8, 1, 0x7f, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                if let Ok(mut gguf) = open_bytes(&bytes) {
                    let _ = gguf.each_rows("weights", (2, 64), |_| {});
                }
            }
        }
    }

    #[test]
    fn zero_alignment_and_other_magic_are_refused() {
        let mut out = Cursor::new(Vec::new());
        gguf_file::write(&mut out, &[("general.alignment", &Value::U32(0))], &[]).expect("writes");
        assert!(matches!(open_bytes(out.get_ref()), Err(LlmError::Damaged { .. })));
        let error = open_bytes(b"PK\x03\x04 a zip file").err().expect("refused").to_string();
        assert!(error.contains("PK") && error.contains("models fetch"), "{error}");
    }
}
