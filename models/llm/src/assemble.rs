//! Bytes of tokens to text that may be sent: whole characters only, and never a stop string or its beginning.

/// Joins the bytes of successive tokens, holding back what cannot be sent yet.
pub(crate) struct Assembler {
    stops: Vec<String>,
    /// The beginning of a character whose other bytes have not come.
    partial: Vec<u8>,
    /// Text that could be the beginning of a stop string.
    held: String,
    stopped: bool,
}

impl Assembler {
    /// Most stop strings of one generation.
    const MAX_STOPS: usize = 64;
    /// Most bytes of one stop string.
    const MAX_STOP_BYTES: usize = 1024;

    /// Empty stop strings are ignored.
    pub(crate) fn new(stops: &[String]) -> Result<Self, String> {
        let stops: Vec<String> = stops.iter().filter(|stop| !stop.is_empty()).cloned().collect();
        if stops.len() > Self::MAX_STOPS || stops.iter().any(|stop| stop.len() > Self::MAX_STOP_BYTES) {
            return Err(format!(
                "{} stop strings of up to {} bytes, the limits are {} and {}",
                stops.len(),
                stops.iter().map(String::len).max().unwrap_or(0),
                Self::MAX_STOPS,
                Self::MAX_STOP_BYTES
            ));
        }
        Ok(Self { stops, partial: Vec::new(), held: String::new(), stopped: false })
    }

    /// Whether a stop string has come; nothing is returned after it.
    pub(crate) fn stopped(&self) -> bool {
        self.stopped
    }

    /// Takes the bytes of a token and returns the text that became certain.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> String {
        if self.stopped {
            return String::new();
        }
        self.partial.extend_from_slice(bytes);
        let (text, used) = decode(&self.partial);
        self.partial.drain(..used);
        self.held.push_str(&text);
        if let Some(at) = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min() {
            self.stopped = true;
            self.held.truncate(at);
            return std::mem::take(&mut self.held);
        }
        let rest = self.held.split_off(self.certain());
        std::mem::replace(&mut self.held, rest)
    }

    /// What was held back, at the end of the generation. An unfinished character is dropped.
    pub(crate) fn finish(&mut self) -> String {
        self.partial.clear();
        std::mem::take(&mut self.held)
    }

    /// Where the longest end of `held` begins that a stop string could continue.
    fn certain(&self) -> usize {
        self.held
            .char_indices()
            .map(|(at, _)| at)
            .find(|&at| self.stops.iter().any(|stop| stop.starts_with(&self.held[at..])))
            .unwrap_or(self.held.len())
    }
}

/// The characters at the beginning of `bytes`, and how many bytes they took; an unfinished last character is
/// left. Bytes that begin no character become U+FFFD.
fn decode(bytes: &[u8]) -> (String, usize) {
    let mut text = String::new();
    let mut used = 0;
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        used += chunk.valid().len();
        let invalid = chunk.invalid();
        if invalid.is_empty() {
            continue;
        }
        let at_end = used + invalid.len() == bytes.len();
        if at_end && std::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none()) {
            break;
        }
        text.push(char::REPLACEMENT_CHARACTER);
        used += invalid.len();
    }
    (text, used)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends `pieces` and returns what came out of each, and at the end.
    fn check(stops: &[&str], pieces: &[&[u8]], expected: &[&str], rest: &str) {
        let stops: Vec<String> = stops.iter().map(|&s| s.to_owned()).collect();
        let mut assembler = Assembler::new(&stops).expect("within limits");
        let out: Vec<String> = pieces.iter().map(|piece| assembler.push(piece)).collect();
        assert_eq!(out, expected, "pieces {pieces:?} with stops {stops:?}");
        assert_eq!(assembler.finish(), rest);
    }

    #[test]
    fn characters_wait_for_their_last_byte() {
        check(&[], &[b"a\xF0\x9F", b"\x99", b"\x82b"], &["a", "", "🙂b"], "");
        check(&[], &[b"\xE2\x82"], &[""], "");
        check(&[], &[b"a\xFFb", b"\xC3", b"x"], &["a\u{FFFD}b", "", "\u{FFFD}x"], "");
    }

    #[test]
    fn nothing_of_a_stop_string_comes_out() {
        check(&["\n\n"], &[b"one\n", b"two\n", b"\nthree"], &["one", "\ntwo", ""], "");
        check(&["END"], &[b"the E", b"N", b"TRY"], &["the ", "", "ENTRY"], "");
        check(&["END", "the"], &[b"see the END"], &["see "], "");
        check(&["aab"], &[b"aa", b"a", b"ab"], &["", "a", "a"], "");
        check(&["stop"], &[b"sto"], &[""], "sto");
        check(&["é!"], &[b"caf\xC3", b"\xA9", b"?"], &["caf", "", "é?"], "");
        check(&[""], &[b"text"], &["text"], "");
    }

    #[test]
    fn a_stop_string_ends_everything() {
        let mut assembler = Assembler::new(&["x".to_owned()]).expect("within limits");
        assert_eq!(assembler.push(b"abxcd"), "ab");
        assert!(assembler.stopped());
        assert_eq!(assembler.push(b"more"), "");
        assert_eq!(assembler.finish(), "");
        assert!(Assembler::new(&["y".repeat(2000)]).is_err());
    }
}
