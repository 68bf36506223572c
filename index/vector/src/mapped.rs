//! A file of a sealed segment, mapped into memory: pages are read when they are touched and belong to the page cache.

use std::fs::File;
use std::path::Path;

use memmap2::Mmap;

/// Where sections of a segment file begin: at multiples of this many bytes.
pub(crate) const SECTION_ALIGNMENT: usize = 64;

/// A whole file, read-only.
pub(crate) struct Mapped(Mmap);

impl Mapped {
    /// Maps a file that is complete and will not change any more.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        let file = File::open(path)?;
        // SAFETY: the bytes must not change while they are borrowed. Segment files are written once, under another
        // name, and renamed into place; nothing of ours writes to them afterwards, and the owner of the data
        // directory holds its lock. Deleting or renaming the file leaves the mapping as it is. Another program that
        // cuts the file ends this process with SIGBUS, as it would any program that maps its data.
        #[expect(unsafe_code, reason = "mapping a file has no safe form")]
        let map = unsafe { Mmap::map(&file) }?;
        Ok(Self(map))
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Bytes of a section with its padding.
pub(crate) fn padded(bytes: usize) -> usize {
    bytes.next_multiple_of(SECTION_ALIGNMENT)
}
