//! What this process has used of the machine.

/// Most memory this process has had resident, in bytes; none where the system does not say.
pub fn peak_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(kilobytes.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// Bytes this process has given to the system to write so far: files, and the little that goes to pipes and sockets
/// in a bench. 0 where the system does not say.
///
/// `wchar` of `/proc/self/io`. Not its `write_bytes`, which counts the whole folio of the page cache that a change
/// makes dirty: on Linux 6.18 with ext4, 4 KiB changed in a large file and synced count as 1 MiB, where the disk gets
/// 8 KiB. What a file system adds of its own is not in it, nor a page of which a part is written, nor mappings, to which
/// nothing of ours writes.
pub fn written_bytes() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    bytes_given(&io)
}

/// The bytes given to write, of a file `io` in `/proc`; 0 where it does not say.
pub fn bytes_given(io: &str) -> u64 {
    let bytes = io.lines().find_map(|line| line.strip_prefix("wchar: "));
    bytes.and_then(|bytes| bytes.trim().parse().ok()).unwrap_or_default()
}

/// Things done a second.
pub fn rate(number: u64, seconds: f64) -> f64 {
    number as f64 / seconds.max(1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_on_linux_knows_its_memory() {
        let peak = peak_memory_bytes();
        assert_eq!(peak.is_some(), cfg!(target_os = "linux"));
        assert!(peak.is_none_or(|bytes| bytes > 100_000), "{peak:?}");
    }

    #[test]
    fn what_is_written_is_what_was_given_and_not_the_pages_it_touched() {
        let io = "rchar: 1\nwchar: 4096\nsyscr: 2\nsyscw: 3\nread_bytes: 0\nwrite_bytes: 1048576\n";
        assert_eq!([io, "", "wchar: x"].map(bytes_given), [4096, 0, 0]);
    }
}
