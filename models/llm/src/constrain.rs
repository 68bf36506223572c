//! Which tokens may come next when a generation is restricted to some words.
//!
//! A mask over tokens alone would let parts of allowed words join into new ones. So the words become a trie over bytes,
//! and what was written so far a set of places in it; a token is allowed when its bytes lead from one of these places
//! to another. The tokens are sorted by their bytes once per model, so a step looks only at those that begin like an
//! allowed continuation.
//!
//! ```text
//! text = word [mark] { " " word [mark] }
//! ```
//!
//! Every byte is a token of a byte-level vocabulary, so a begun word can always be finished.

use bowerbird_models_api::Constraint;

use crate::tokenizer::ChatTokenizer;

/// Most words of one constraint.
const MAX_WORDS: usize = 4_096;
/// Most bytes of them together; the trie has at most one node more.
const MAX_WORD_BYTES: usize = 64 * 1024;

/// The tokens of a model that are text, in the order of their bytes.
pub(crate) struct SortedTokens {
    ids: Vec<u32>,
}

impl SortedTokens {
    /// `bytes(id)` for ids below `len`; tokens without bytes are left out.
    pub(crate) fn new<'a>(len: usize, bytes: impl Fn(u32) -> &'a [u8]) -> Self {
        let mut ids: Vec<u32> = (0..len as u32).filter(|&id| !bytes(id).is_empty()).collect();
        ids.sort_by_key(|&id| (bytes(id), id));
        Self { ids }
    }

    /// The sorted tokens of a model.
    pub(crate) fn of(tokenizer: &ChatTokenizer) -> Self {
        Self::new(tokenizer.len(), |id| tokenizer.bytes(id))
    }
}

/// A node of the trie: its children in the order of their bytes, and whether a word ends here.
#[derive(Default)]
struct Node {
    children: Vec<(u8, u32)>,
    ends_word: bool,
}

/// Where the text written so far stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// At a node of the trie; the root is before a word.
    Node(u32),
    /// After a mark.
    Marked,
}

/// The places that the text so far can stand at; `U.S` stands inside `U.S.` and after a mark that follows `U`.
type Places = Vec<Place>;

/// One constrained generation.
pub(crate) struct Words {
    nodes: Vec<Node>,
    marks: Vec<u8>,
    places: Places,
}

impl Words {
    /// Refuses constraints beyond the limits and those that allow nothing.
    pub(crate) fn new(constraint: &Constraint) -> Result<Self, String> {
        let words: Vec<&str> = constraint.words.iter().map(|w| w.trim()).filter(|w| !w.is_empty()).collect();
        let bytes: usize = words.iter().map(|word| word.len()).sum();
        if words.is_empty() || words.len() > MAX_WORDS || bytes > MAX_WORD_BYTES {
            return Err(format!(
                "the constraint has {} words of {bytes} bytes, expected 1 to {MAX_WORDS} words of at most \
                 {MAX_WORD_BYTES} bytes",
                words.len()
            ));
        }
        if !constraint.marks.is_ascii() || constraint.marks.contains(' ') {
            return Err(format!(
                "the constraint has the marks {:?}, expected ASCII without a space",
                constraint.marks
            ));
        }
        let mut nodes = vec![Node::default()];
        for word in words {
            let mut at = 0;
            for &byte in word.as_bytes() {
                let next = nodes.len() as u32;
                let children = &mut nodes[at].children;
                at = match children.binary_search_by_key(&byte, |(b, _)| *b) {
                    Ok(found) => children[found].1 as usize,
                    Err(slot) => {
                        children.insert(slot, (byte, next));
                        nodes.push(Node::default());
                        next as usize
                    }
                };
            }
            nodes[at].ends_word = true;
        }
        Ok(Self { nodes, marks: constraint.marks.bytes().collect(), places: vec![Place::Node(0)] })
    }

    /// Whether the text may end here: after a word or a mark.
    pub(crate) fn may_end(&self) -> bool {
        self.places.iter().any(|place| match place {
            Place::Node(node) => self.nodes[*node as usize].ends_word,
            Place::Marked => true,
        })
    }

    /// The tokens that may come next, ascending; those that end the text are not among them.
    pub(crate) fn allowed<'a>(&self, tokens: &SortedTokens, bytes: impl Fn(u32) -> &'a [u8]) -> Vec<u32> {
        let mut allowed = Vec::new();
        self.collect(&tokens.ids, &bytes, 0, &self.places, &mut allowed);
        allowed.sort_unstable();
        allowed
    }

    /// Tokens of `ids` (sorted, equal in their first `depth` bytes) that go on from `places`.
    fn collect<'a>(
        &self,
        ids: &[u32],
        bytes: &impl Fn(u32) -> &'a [u8],
        depth: usize,
        places: &[Place],
        allowed: &mut Vec<u32>,
    ) {
        // Those that end at this depth come first.
        let ended = ids.partition_point(|&id| bytes(id).len() == depth);
        allowed.extend_from_slice(&ids[..ended]);
        let longer = &ids[ended..];
        if longer.is_empty() {
            return;
        }
        for byte in self.continuations(places) {
            let from = longer.partition_point(|&id| bytes(id)[depth] < byte);
            let to = from + longer[from..].partition_point(|&id| bytes(id)[depth] == byte);
            if from < to {
                let next = self.after(places, byte);
                self.collect(&longer[from..to], bytes, depth + 1, &next, allowed);
            }
        }
    }

    /// The bytes that may come next, each once.
    fn continuations(&self, places: &[Place]) -> Vec<u8> {
        let mut found = Vec::new();
        for place in places {
            match place {
                Place::Node(node) => {
                    let node = &self.nodes[*node as usize];
                    found.extend(node.children.iter().map(|(byte, _)| *byte));
                    if node.ends_word {
                        found.push(b' ');
                        found.extend_from_slice(&self.marks);
                    }
                }
                Place::Marked => found.push(b' '),
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The places after one more byte; none when it is not allowed.
    fn after(&self, places: &[Place], byte: u8) -> Places {
        let mut next = Places::new();
        for place in places {
            match place {
                Place::Node(node) => {
                    let node = &self.nodes[*node as usize];
                    if let Ok(at) = node.children.binary_search_by_key(&byte, |(b, _)| *b) {
                        next.push(Place::Node(node.children[at].1));
                    }
                    if node.ends_word && byte == b' ' {
                        next.push(Place::Node(0));
                    }
                    if node.ends_word && self.marks.contains(&byte) {
                        next.push(Place::Marked);
                    }
                }
                Place::Marked if byte == b' ' => next.push(Place::Node(0)),
                Place::Marked => {}
            }
        }
        next.sort_unstable();
        next.dedup();
        next
    }

    /// Takes the bytes of the chosen token.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.places = self.after(&self.places, byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A vocabulary of single bytes and some longer pieces.
    fn pieces() -> Vec<Vec<u8>> {
        let longer =
            [" cof", "fee", "coffee", " coffee", " l", "ower", " lower", "ers", " risk", ".", ". ", "tea"];
        (0..=255u8)
            .map(|b| vec![b])
            .chain(longer.map(|p| p.as_bytes().to_vec()))
            .chain([Vec::new()])
            .collect()
    }

    fn constraint(words: &[&str]) -> Constraint {
        Constraint { words: words.iter().map(|&w| w.to_owned()).collect(), marks: ".,".to_owned() }
    }

    /// What may follow `text`, as texts.
    fn next(words: &[&str], text: &str) -> Vec<String> {
        let pieces = pieces();
        let bytes = |id: u32| pieces[id as usize].as_slice();
        let sorted = SortedTokens::new(pieces.len(), bytes);
        let mut state = Words::new(&constraint(words)).expect("within limits");
        state.push(text.as_bytes());
        let allowed = state.allowed(&sorted, bytes);
        assert!(allowed.is_sorted());
        let mut found: Vec<String> =
            allowed.iter().map(|&id| String::from_utf8_lossy(bytes(id)).into_owned()).collect();
        if state.may_end() {
            found.push("<end>".to_owned());
        }
        found
    }

    #[test]
    fn pieces_of_words_do_not_join_into_new_words() {
        let words = ["coffee", "lower", "risk"];
        assert_eq!(next(&words, ""), ["c", "l", "r", "coffee"]);
        assert_eq!(
            next(&words, "coffee"),
            [" ", ",", ".", " cof", " coffee", " l", " lower", " risk", ".", ". ", "<end>"]
        );
        assert_eq!(next(&words, "lower"), next(&words, "risk"), "`ers` would make another word");
        assert_eq!(next(&words, "cof"), ["f", "fee"]);
        assert_eq!(next(&words, "coffee."), [" ", " cof", " coffee", " l", " lower", " risk", "<end>"]);
        assert_eq!(next(&words, "coffee "), next(&words, ""), "a new word");
        assert!(next(&words, "coffee..").is_empty());
        assert!(next(&words, "cofrisk").is_empty());
    }

    #[test]
    fn a_mark_may_also_be_part_of_a_word() {
        let words = ["U.S.", "U", "1", "1.5"];
        assert!(next(&words, "U.").iter().any(|t| t == "S"));
        assert!(next(&words, "U. ").iter().any(|t| t == "1"));
        assert!(
            next(&words, "1.").contains(&"5".to_owned()) && !next(&words, "1.").contains(&"1".to_owned())
        );
        assert!(next(&words, "1.5").contains(&"<end>".to_owned()));
        assert!(!next(&words, "1.").contains(&"6".to_owned()), "digits are those of the words");
    }

    #[test]
    fn characters_of_many_bytes_are_whole() {
        assert_eq!(next(&["é"], "é"), [" ", ",", ".", ".", ". ", "<end>"]);
        let half = next(&["é"], "");
        assert_eq!(half.len(), 1, "the first byte of two: {half:?}");
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        assert!(Words::new(&constraint(&[])).is_err());
        assert!(Words::new(&constraint(&[" "])).is_err());
        assert!(Words::new(&constraint(&vec!["x"; MAX_WORDS + 1])).is_err());
        assert!(Words::new(&constraint(&[&"x".repeat(MAX_WORD_BYTES + 1)])).is_err());
        assert!(Words::new(&Constraint { marks: "…".into(), ..constraint(&["x"]) }).is_err());
        assert!(Words::new(&constraint(&vec!["x"; MAX_WORDS])).expect("as many as allowed").nodes.len() == 2);
    }
}
