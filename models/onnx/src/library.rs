//! A look at a shared library before it is loaded.
//!
//! The dynamic loader maps the segments of a truncated library and then dies on the missing pages with SIGBUS, which
//! no error handling can catch. So the segments are compared with the length of the file first. What is damaged in
//! the middle is found by the checksums of the catalog, not here.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// Refuses what is not a complete shared library; the message says why.
pub(crate) fn check(path: &Path) -> Result<(), String> {
    let metadata = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("it is not a file".into());
    }
    if cfg!(target_os = "linux") {
        let file = File::open(path).map_err(|error| error.to_string())?;
        check_elf(file, metadata.len())
    } else if metadata.len() == 0 {
        Err("it is empty".into())
    } else {
        Ok(()) // the macOS loader checks the extent of its segments itself
    }
}

/// Checks a 64-bit little-endian ELF image of `length` bytes.
///
/// Source: System V ABI, chapter 4 (object files) and 5 (program loading): file header of 64 bytes, `e_phoff` at 32,
/// `e_shoff` at 40, sizes and counts from 54; program header of 56 bytes, `p_type` at 0, `p_offset` at 8, `p_filesz`
/// at 32.
fn check_elf(mut image: impl Read + Seek, length: u64) -> Result<(), String> {
    const HEADER: usize = 64;
    const PROGRAM_HEADER: u64 = 56;
    const PT_LOAD: u32 = 1;
    let mut header = [0u8; HEADER];
    image.read_exact(&mut header).map_err(|_| format!("it has {length} bytes, too few for a library"))?;
    if header[..4] != *b"\x7fELF" {
        return Err("it is not an ELF library".into());
    }
    if header[4] != 2 || header[5] != 1 {
        return Err("it is not a 64-bit little-endian library".into());
    }
    let (programs, program_size, program_count) =
        (u64_at(&header, 32), u16_at(&header, 54), u16_at(&header, 56));
    let (sections, section_size, section_count) =
        (u64_at(&header, 40), u16_at(&header, 58), u16_at(&header, 60));
    if u64::from(program_size) != PROGRAM_HEADER || program_count == 0 {
        return Err("its ELF header has no program headers".into());
    }
    let mut needed = programs.saturating_add(u64::from(program_count) * PROGRAM_HEADER);
    needed = needed.max(sections.saturating_add(u64::from(section_count) * u64::from(section_size)));
    if needed <= length {
        image.seek(SeekFrom::Start(programs)).map_err(|error| error.to_string())?;
        for _ in 0..program_count {
            let mut program = [0u8; PROGRAM_HEADER as usize];
            image.read_exact(&mut program).map_err(|error| error.to_string())?;
            if u32_at(&program, 0) == PT_LOAD {
                needed = needed.max(u64_at(&program, 8).saturating_add(u64_at(&program, 32)));
            }
        }
    }
    if needed > length {
        return Err(format!("it is truncated: its header names {needed} bytes, the file has {length}"));
    }
    Ok(())
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// A file header, one loadable segment from byte 0 to `filesz`, and nothing else.
    fn image(filesz: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0u8; length.max(120)];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[32..40].copy_from_slice(&64u64.to_le_bytes());
        bytes[54..56].copy_from_slice(&56u16.to_le_bytes());
        bytes[56..58].copy_from_slice(&1u16.to_le_bytes());
        bytes[64..68].copy_from_slice(&1u32.to_le_bytes());
        bytes[64 + 32..64 + 40].copy_from_slice(&filesz.to_le_bytes());
        bytes.truncate(length);
        bytes
    }

    fn verdict(bytes: &[u8]) -> Result<(), String> {
        check_elf(Cursor::new(bytes), bytes.len() as u64)
    }

    #[test]
    fn an_image_is_refused_when_a_segment_ends_after_the_file() {
        assert_eq!(verdict(&image(4096, 4096)), Ok(()));
        let expected = "it is truncated: its header names 4096 bytes, the file has 4095";
        assert_eq!(verdict(&image(4096, 4095)), Err(expected.into()));
        for length in [64, 100, 119] {
            assert!(verdict(&image(4096, length)).is_err_and(|m| m.contains("truncated")), "{length}");
        }
        assert!(verdict(&image(u64::MAX, 4096)).is_err_and(|m| m.contains("truncated")));
    }

    #[test]
    fn what_is_no_library_is_named_as_such() {
        for (bytes, expected) in [
            (&b""[..], "too few"),
            (b"\x7fELF", "too few"),
            (&[b'x'; 200], "not an ELF library"),
            (&[&b"\x7fELF\x01\x01"[..], &[0; 200]].concat(), "not a 64-bit"),
            (&[&b"\x7fELF\x02\x01"[..], &[0; 200]].concat(), "no program headers"),
        ] {
            let message = verdict(bytes).expect_err("is no library");
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn the_test_program_itself_is_a_complete_image() {
        let own = std::env::current_exe().expect("is known");
        assert_eq!(check(&own), Ok(()));
        assert!(check(own.parent().expect("has one")).is_err());
    }
}
