//! Lines of bounded length from any reader: what JSONL files and NDJSON bodies share.

use std::io::{self, BufRead};

/// Why a line could not be handed out.
#[derive(Debug)]
pub enum LineProblem {
    /// The line is longer than the limit; it was skipped without being held in memory.
    TooLong {
        /// Most bytes of a line.
        limit: usize,
    },
    /// The reader failed; no line follows.
    Io(io::Error),
}

/// Iterates over the lines of a reader; see [`bounded_lines`].
#[derive(Debug)]
pub struct BoundedLines<R> {
    reader: R,
    limit: usize,
    number: u64,
    ended: bool,
}

/// The lines of `reader` that are not blank, with their numbers (from 1), without their ends.
///
/// At most `limit` bytes of a line are held. A byte order mark at the start is dropped, `\r\n` ends a line like
/// `\n`. After [`LineProblem::TooLong`] the next line follows, after [`LineProblem::Io`] nothing does.
pub fn bounded_lines<R: BufRead>(reader: R, limit: usize) -> BoundedLines<R> {
    BoundedLines { reader, limit, number: 0, ended: false }
}

impl<R: BufRead> BoundedLines<R> {
    /// Reads to the end of the line; `None` at the end of the input.
    fn line(&mut self) -> io::Result<Option<Result<Vec<u8>, LineProblem>>> {
        // Four bytes more than the limit: room for `\r` and a byte order mark, which do not count.
        let (mut line, mut skipped, mut any) = (Vec::new(), false, false);
        let held = self.limit + 4;
        loop {
            let chunk = match self.reader.fill_buf() {
                Ok(chunk) => chunk,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if chunk.is_empty() {
                self.ended = true;
                break;
            }
            any = true;
            let newline = chunk.iter().position(|&byte| byte == b'\n');
            let part = &chunk[..newline.unwrap_or(chunk.len())];
            if skipped || line.len() + part.len() > held {
                (skipped, line) = (true, Vec::new());
            } else {
                line.extend_from_slice(part);
            }
            let used = newline.map_or(chunk.len(), |at| at + 1);
            self.reader.consume(used);
            if newline.is_some() {
                break;
            }
        }
        if !any {
            return Ok(None);
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        if self.number == 0 && line.starts_with("\u{feff}".as_bytes()) {
            line.drain(..3);
        }
        if skipped || line.len() > self.limit {
            return Ok(Some(Err(LineProblem::TooLong { limit: self.limit })));
        }
        Ok(Some(Ok(line)))
    }
}

impl<R: BufRead> Iterator for BoundedLines<R> {
    type Item = (u64, Result<Vec<u8>, LineProblem>);

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            let line = match self.line() {
                Ok(line) => line?,
                Err(error) => {
                    self.ended = true;
                    return Some((self.number + 1, Err(LineProblem::Io(error))));
                }
            };
            self.number += 1;
            if line.as_ref().is_ok_and(|line| line.iter().all(u8::is_ascii_whitespace)) {
                continue;
            }
            return Some((self.number, line));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    fn check(input: &[u8], limit: usize, expected: &[(u64, Option<&str>)]) {
        for buffer in [1, 3, 64] {
            let lines = bounded_lines(BufReader::with_capacity(buffer, input), limit);
            let found: Vec<_> = lines
                .map(|(number, line)| (number, line.ok().map(|l| String::from_utf8(l).expect("UTF-8"))))
                .collect();
            let found: Vec<_> = found.iter().map(|(number, line)| (*number, line.as_deref())).collect();
            assert_eq!(found, expected, "buffer of {buffer}");
        }
    }

    #[test]
    fn lines_are_bounded_numbered_and_never_blank() {
        check(b"", 8, &[]);
        check(b"\n \t\r\n\n", 8, &[]);
        check(b"\xef\xbb\xbfa\r\n\nb", 8, &[(1, Some("a")), (3, Some("b"))]);
        check(b"12345678\r\n123456789\nlast", 8, &[(1, Some("12345678")), (2, None), (3, Some("last"))]);
        check(&[b'x'; 1000], 8, &[(1, None)]);
        check(b"\xef\xbb\xbf12345678\nb\n", 8, &[(1, Some("12345678")), (2, Some("b"))]);
    }

    #[test]
    fn a_failing_reader_ends_the_lines() {
        struct Failing;
        impl io::Read for Failing {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken pipe"))
            }
        }
        let mut lines = bounded_lines(BufReader::new(Failing), 8);
        assert!(matches!(lines.next(), Some((1, Err(LineProblem::Io(_))))));
        assert!(lines.next().is_none());
    }
}
