//! From text to tokens: the same for posts, queries, phrases and highlights.
//!
//! Every unit takes one position, a run without spaces one for each character. A tag stands in the text as itself
//! (`#sleep`), as a word (`sleep`) and, when it is written `#WeightLoss` or `#weight_loss`, as its parts; a link as
//! its address, its host and the words of its host. Tokens of a word lose case, accents, apostrophes and, by
//! family, their ending.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;

use frostem::{Algorithm, Stemmer};
use tantivy::tokenizer::{Token as IndexToken, TokenStream, Tokenizer};

use crate::error::panic_text;
use crate::fold::{fold, is_apostrophe, is_emoji_variation, is_unspaced};
use crate::language::Family;
use crate::query::{MAX_QUERY_BYTES, cut};
use crate::scan::{Kind, Unit, units};
use crate::stop;

/// Longest token, in bytes; longer words are cut, in posts and queries alike.
pub(crate) const MAX_TOKEN_BYTES: usize = 255;

/// What the tokens are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To be indexed or highlighted: every form.
    Index,
    /// To be ranked by: every form, of a run without spaces only the pairs.
    Query,
    /// To stand side by side: one form for each position.
    Phrase,
}

/// One token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    /// What is looked up.
    pub text: String,
    /// Place among the units.
    pub position: u32,
    /// The unit in the text, whole.
    pub bytes: Range<usize>,
    /// A stop word of its family.
    pub stop: bool,
    /// A word, so that a prefix may find it.
    pub word: bool,
}

/// The tokens of `text`, by position. Their number and order do not depend on the family.
pub(crate) fn tokens(text: &str, family: Family, purpose: Purpose) -> Vec<Token> {
    let mut analyser = Analyser { family, purpose, position: 0, unordered: false, tokens: Vec::new() };
    for unit in units(text) {
        analyser.unit(text, &unit);
    }
    if analyser.unordered {
        analyser.tokens.sort_by_key(|token| token.position);
    }
    analyser.tokens
}

/// Whether posts can be searched for anything in `text`: a word, a number, a sign that is a token of its own.
pub fn has_words(text: &str) -> bool {
    !units(cut(text, MAX_QUERY_BYTES)).is_empty()
}

struct Analyser {
    family: Family,
    purpose: Purpose,
    position: u32,
    unordered: bool,
    tokens: Vec<Token>,
}

impl Analyser {
    fn unit(&mut self, text: &str, unit: &Unit) {
        let surface = &text[unit.bytes.clone()];
        let bytes = &unit.bytes;
        let single = self.purpose == Purpose::Phrase;
        match unit.kind {
            Kind::Word => self.word(surface, 0, bytes),
            Kind::Emoji => {
                let plain: String = surface.chars().filter(|c| !is_emoji_variation(*c)).collect();
                self.push(plain, 0, bytes, false);
            }
            Kind::Unspaced => {
                self.unspaced(surface, bytes.start);
                return;
            }
            Kind::Tag => {
                let name = surface.trim_start_matches(['#', '＃']);
                self.push(format!("#{}", name.to_lowercase()), 0, bytes, false);
                if !single {
                    self.tag_words(name, bytes);
                }
            }
            Kind::Mention => {
                let name = surface.trim_start_matches(['@', '＠']);
                self.push(format!("@{}", name.to_lowercase()), 0, bytes, false);
                if !single {
                    self.push(fold(name), 0, bytes, true);
                }
            }
            Kind::Cashtag => {
                self.push(surface.to_ascii_lowercase(), 0, bytes, false);
                if !single {
                    self.push(surface[1..].to_ascii_lowercase(), 0, bytes, true);
                }
            }
            Kind::Link => self.link(surface, bytes, single),
        }
        self.position += 1;
    }

    /// A word at `offset` from the current position.
    fn word(&mut self, surface: &str, offset: u32, bytes: &Range<usize>) {
        let plain = without_apostrophes(surface, self.family);
        let plain = if plain.starts_with(|c: char| c.is_ascii_digit()) {
            plain.replace(',', "")
        } else if plain.contains('.') && plain.split('.').all(|part| part.chars().count() == 1) {
            plain.replace('.', "")
        } else {
            plain
        };
        let lower = plain.to_lowercase();
        let stop = stop::english(&lower) || (self.family == Family::French && stop::french(&lower));
        let folded = fold(&lower);
        let stem = match self.family {
            _ if folded.bytes().any(|byte| byte.is_ascii_digit()) => folded,
            Family::English => ENGLISH.stem(&folded).into_owned(),
            Family::French => FRENCH.stem(&folded).into_owned(),
            Family::Other => folded,
        };
        self.push(stem, offset, bytes, true);
        if let Some(token) = self.tokens.last_mut() {
            token.stop = stop;
        }
    }

    fn tag_words(&mut self, name: &str, bytes: &Range<usize>) {
        if name.chars().any(is_unspaced) {
            for unit in units(name) {
                match unit.kind {
                    Kind::Unspaced => self.pairs(&name[unit.bytes], |_| bytes.clone()),
                    _ => self.word(&name[unit.bytes], 0, bytes),
                }
            }
            self.unordered = true;
            return;
        }
        let parts = tag_parts(name);
        if parts.is_empty() {
            return;
        }
        self.word(&parts.concat(), 0, bytes);
        if parts.len() > 1 {
            for (offset, part) in parts.iter().enumerate() {
                self.word(part, offset as u32, bytes);
            }
            self.unordered = true;
        }
    }

    fn unspaced(&mut self, surface: &str, start: usize) {
        let before = self.position;
        self.pairs(surface, |part| start + part.start..start + part.end);
        self.position = before + surface.chars().count() as u32;
    }

    /// Characters and pairs of neighbours, each at the position of its first character.
    fn pairs(&mut self, surface: &str, range: impl Fn(Range<usize>) -> Range<usize>) {
        let starts: Vec<usize> = surface.char_indices().map(|(at, _)| at).chain([surface.len()]).collect();
        for (offset, window) in starts.windows(2).enumerate() {
            let single = window[0]..window[1];
            let pair = starts.get(offset + 2).map(|&end| window[0]..end);
            let offset = offset as u32;
            if self.purpose == Purpose::Index || starts.len() == 2 {
                self.push(fold(&surface[single.clone()]), offset, &range(single), true);
            }
            if let Some(pair) = pair {
                self.push(fold(&surface[pair.clone()]), offset, &range(pair), true);
            }
        }
    }

    fn link(&mut self, surface: &str, bytes: &Range<usize>, single: bool) {
        let link = surface.to_lowercase();
        let link = link.strip_prefix("https://").or_else(|| link.strip_prefix("http://")).unwrap_or(&link);
        let link = link.strip_prefix("www.").unwrap_or(link).trim_end_matches('/');
        self.push(link.to_owned(), 0, bytes, false);
        let host = link.split(['/', '?', '#']).next().unwrap_or_default();
        let host = host.rsplit('@').next().unwrap_or_default();
        let host = host.split(':').next().unwrap_or_default();
        if single || host.is_empty() {
            return;
        }
        if host.len() < link.len() {
            self.push(host.to_owned(), 0, bytes, false);
        }
        // The last label says `com`, short ones `co` or `t`: neither is a word of the post.
        let labels: Vec<&str> = host.split('.').collect();
        for label in &labels[..labels.len() - 1] {
            for part in
                label.split('-').filter(|part| part.len() > 2 && part.chars().all(char::is_alphanumeric))
            {
                self.word(part, 0, bytes);
            }
        }
    }

    fn push(&mut self, mut text: String, offset: u32, bytes: &Range<usize>, word: bool) {
        if text.is_empty() {
            // A lone accent folds to nothing. Every unit keeps its token, so that families stay in step.
            text.push(char::REPLACEMENT_CHARACTER);
        }
        if text.len() > MAX_TOKEN_BYTES {
            text.truncate(cut(&text, MAX_TOKEN_BYTES).len());
        }
        self.tokens.push(Token {
            text,
            position: self.position + offset,
            bytes: bytes.clone(),
            stop: false,
            word,
        });
    }
}

static ENGLISH: LazyLock<Stemmer> = LazyLock::new(|| Stemmer::new(Algorithm::English));
static FRENCH: LazyLock<Stemmer> = LazyLock::new(|| Stemmer::new(Algorithm::French));

/// `John's` to `John`, `don't` to `dont`; in French also `l'homme` to `homme`. Never empty.
fn without_apostrophes(word: &str, family: Family) -> String {
    let mut word = word;
    if family == Family::French
        && let Some(at) = word.find(is_apostrophe)
        && ELIDED.contains(&word[..at].to_lowercase().as_str())
    {
        word = word[at..].trim_start_matches(is_apostrophe);
    }
    if let Some(at) = word.rfind(is_apostrophe)
        && at > 0
        && word[at..].trim_start_matches(is_apostrophe).eq_ignore_ascii_case("s")
    {
        word = &word[..at];
    }
    // Soft hyphens, joiners and what makes a keycap of a digit are part of the spelling, not of the word.
    let spelling = |c: char| is_emoji_variation(c) || matches!(c, '\u{ad}' | '\u{200c}' | '\u{200d}');
    word.chars().filter(|c| !is_apostrophe(*c) && !spelling(*c)).collect()
}

/// French words that lose their vowel before another.
const ELIDED: [&str; 14] =
    ["l", "d", "j", "m", "t", "s", "n", "c", "qu", "jusqu", "lorsqu", "puisqu", "quoiqu", "presqu"];

/// `WeightLoss` to `Weight`, `Loss`; `NHS_Week` to `NHS`, `Week`; `NHSWeek` likewise.
fn tag_parts(name: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    for piece in name.split('_').filter(|piece| piece.chars().any(char::is_alphanumeric)) {
        let characters: Vec<(usize, char)> = piece.char_indices().collect();
        let mut start = 0;
        for window in 1..characters.len() {
            let (at, c) = characters[window];
            let before = characters[window - 1].1;
            let next_is_lower = characters.get(window + 1).is_some_and(|(_, next)| next.is_lowercase());
            if c.is_uppercase() && (before.is_lowercase() || (before.is_uppercase() && next_is_lower)) {
                parts.push(&piece[start..at]);
                start = at;
            }
        }
        parts.push(&piece[start..]);
    }
    parts.retain(|part| part.chars().next().is_some_and(char::is_alphanumeric));
    parts
}

/// Feeds the tokens of a field to tantivy.
#[derive(Clone)]
pub(crate) enum FieldTokenizer {
    /// The body field of a family.
    Body(Family),
    /// Words as they are written, for prefixes.
    Surface,
}

impl FieldTokenizer {
    fn tokens(&self, text: &str) -> Vec<Token> {
        match self {
            Self::Body(family) => tokens(text, *family, Purpose::Index),
            Self::Surface => {
                let mut words = tokens(text, Family::Other, Purpose::Index);
                words.retain(|token| token.word);
                words
            }
        }
    }
}

impl Tokenizer for FieldTokenizer {
    type TokenStream<'a> = FieldTokens;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> FieldTokens {
        // A panic here would end the thread that indexes, and again when the post is replayed. One post that is
        // not found is the lesser evil.
        let tokens = catch_unwind(AssertUnwindSafe(|| self.tokens(text))).unwrap_or_else(|panic| {
            tracing::error!(panic = panic_text(&*panic), bytes = text.len(), "a text could not be analysed");
            Vec::new()
        });
        FieldTokens { tokens: tokens.into_iter(), current: IndexToken::default() }
    }
}

/// See [`FieldTokenizer`].
pub(crate) struct FieldTokens {
    tokens: std::vec::IntoIter<Token>,
    current: IndexToken,
}

impl TokenStream for FieldTokens {
    fn advance(&mut self) -> bool {
        let Some(token) = self.tokens.next() else { return false };
        self.current = IndexToken {
            offset_from: token.bytes.start,
            offset_to: token.bytes.end,
            position: token.position as usize,
            text: token.text,
            position_length: 1,
        };
        true
    }

    fn token(&self) -> &IndexToken {
        &self.current
    }

    fn token_mut(&mut self) -> &mut IndexToken {
        &mut self.current
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, family: Family, purpose: Purpose, expected: &str) {
        let found: Vec<String> = tokens(text, family, purpose)
            .iter()
            .map(|token| format!("{}{}/{}", token.text, if token.stop { "!" } else { "" }, token.position))
            .collect();
        assert_eq!(found.join(" "), expected, "{text}");
    }

    #[test]
    fn tokens_by_purpose_and_family() {
        use Family::{English, French, Other};
        use Purpose::{Index, Phrase, Query};
        check("The runner's DON'T", English, Index, "the!/0 runner/1 dont/2");
        check("Running cafés", English, Index, "run/0 cafe/1");
        check("Running cafés", Other, Index, "running/0 cafes/1");
        check("L’homme mangeait du thé", French, Index, "homm/0 mang/1 du!/2 the/3");
        check("U.S. 1,000.5 e.g.", English, Index, "us/0 1000.5/1 eg/2");
        check("#Sleep now", English, Index, "#sleep/0 sleep/0 now/1");
        check("#WeightLoss tips", English, Index, "#weightloss/0 weightloss/0 weight/0 loss/1 tip/1");
        check("#WeightLoss tips", English, Phrase, "#weightloss/0 tip/1");
        check("#NHS_Week", Other, Index, "#nhs_week/0 nhsweek/0 nhs/0 week/1");
        check("@Bob_Smith $AAPL", English, Index, "@bob_smith/0 bob_smith/0 $aapl/1 aapl/1");
        check("https://www.NYTimes.com/a/ x", Other, Index, "nytimes.com/a/0 nytimes.com/0 nytimes/0 x/1");
        check("http://t.co/aB", Other, Index, "t.co/ab/0 t.co/0");
        check("👍🏽❤️", English, Index, "👍/0 ❤/1");
        check("睡眠大", English, Index, "睡/0 睡眠/0 眠/1 眠大/1 大/2");
        check("睡眠大", English, Query, "睡眠/0 眠大/1");
        check("睡眠大", English, Phrase, "睡眠/0 眠大/1");
        check("猫", English, Query, "猫/0");
        check("#睡眠 a", English, Query, "#睡眠/0 睡眠/0 a!/1");
    }

    proptest::proptest! {
        // A post is outside data, and a panic here would end the thread that indexes.
        #[test]
        fn any_text_has_tokens(text in "(\\PC|[#@$'’.,/:_ ]|http://|www\\.|[a-zA-Z0-9]|[\u{300}\u{345}\u{200d}\u{fe0f}🇫👍睡ก한é]){0,60}") {
            for purpose in [Purpose::Index, Purpose::Query, Purpose::Phrase] {
                let found = Family::ALL.map(|family| tokens(&text, family, purpose));
                for tokens in &found {
                    proptest::prop_assert_eq!(tokens.len(), found[0].len());
                    proptest::prop_assert!(tokens.is_sorted_by_key(|token| token.position));
                    for token in tokens {
                        proptest::prop_assert!(!token.text.is_empty() && text.get(token.bytes.clone()).is_some());
                    }
                }
            }
        }
    }

    #[test]
    fn families_agree_on_number_and_order_and_tokens_are_bounded() {
        let long = "é".repeat(400);
        let odd = format!(
            "l'été don't 's #_ #a_ #__x ’ U.S.’s 1,000's {long} #{long} http://-.x/ http://é.x @_ ⒈.⒉ 3.’s"
        );
        let number = tokens(&odd, Family::English, Purpose::Index).len();
        for family in Family::ALL {
            let tokens = tokens(&odd, family, Purpose::Index);
            assert_eq!(tokens.len(), number);
            assert!(tokens.is_sorted_by_key(|token| token.position));
            for token in &tokens {
                assert!(!token.text.is_empty() && token.text.len() <= MAX_TOKEN_BYTES, "{token:?}");
            }
        }
    }
}
