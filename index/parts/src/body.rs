//! Checksums over the bytes of a file.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::PartError;

const CHUNK: usize = 256 * 1024;

/// A writer that knows what went through it.
pub(crate) struct Summed<W> {
    inner: W,
    bytes: u64,
    crc: crc32fast::Hasher,
}

impl<W> Summed<W> {
    pub fn new(inner: W) -> Self {
        Self { inner, bytes: 0, crc: crc32fast::Hasher::new() }
    }

    /// Bytes so far and their CRC-32, as `bowerbird.body` holds them.
    pub fn body(&self) -> String {
        format!("{} {:08x}", self.bytes, self.crc.clone().finalize())
    }

    pub fn into_inner(self) -> W {
        self.inner
    }
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.crc.update(&buffer[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Compares the bytes before the footer with what `bowerbird.body` says of them.
pub(crate) fn check_body(path: &Path, body: &str) -> Result<(), PartError> {
    let (bytes, crc) = body
        .split_once(' ')
        .and_then(|(bytes, crc)| Some((bytes.parse::<u64>().ok()?, u32::from_str_radix(crc, 16).ok()?)))
        .ok_or_else(|| PartError::damaged(path, format!("bowerbird.body is {body:?}")))?;
    let mut hasher = crc32fast::Hasher::new();
    let read = each_chunk(path, bytes, |chunk| hasher.update(chunk))?;
    let found = hasher.finalize();
    if read != bytes || found != crc {
        return Err(PartError::damaged(
            path,
            format!("CRC-32 of its first {bytes} bytes is {found:08x}, expected {crc:08x}"),
        ));
    }
    Ok(())
}

/// SHA-256 of a file, hexadecimal.
pub fn file_sha256(path: &Path) -> Result<String, PartError> {
    let mut hasher = Sha256::new();
    each_chunk(path, u64::MAX, |chunk| hasher.update(chunk))?;
    Ok(hex::encode(hasher.finalize()))
}

fn each_chunk(path: &Path, limit: u64, mut visit: impl FnMut(&[u8])) -> Result<u64, PartError> {
    let mut file = File::open(path).map_err(PartError::io("open", path))?.take(limit);
    let mut buffer = vec![0; CHUNK];
    let mut read = 0;
    loop {
        let bytes = file.read(&mut buffer).map_err(PartError::io("read", path))?;
        if bytes == 0 {
            return Ok(read);
        }
        visit(&buffer[..bytes]);
        read += bytes as u64;
    }
}
