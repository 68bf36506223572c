//! Did you mean: a mistyped word replaced by one that live posts hold together with the rest of the query.
//!
//! A word is looked at when it is plain (no tag, mention, operator value, phrase or negation), Latin, without digits,
//! of at least [`MIN_CHARS`] letters, and no post holds it in any inflection, or so few that it may be a slip of
//! others. Candidates come from the term dictionary: one edit away for 4 to 7 letters, two for 8 and more, a swap of
//! neighbours being one; the first letter stays unless the word is of 8 letters or more. The best has the greatest
//! `ln P(candidate | rest of the query) - cost of the slip`, see `channel.rs`.

use bowerbird_lexical::suggest::{PostSample, Vocabulary, folded, is_stop_word, single_word};
use bowerbird_live::{Filter, Snapshot};
use roaring::RoaringBitmap;

use super::channel;
use super::complete::spelled;
use crate::{Node, SearchError, parse};

/// Fewest letters of a word that is corrected.
const MIN_CHARS: usize = 4;
/// Fewest letters of a word that may be two edits off, or off in its first letter.
const LONG: usize = 8;
/// Longest word that is looked at.
const MAX_CHARS: usize = 32;
/// Words of one query that are looked at; of more, it is left as it is.
const MAX_WORDS: usize = 12;
/// A word that posts hold gives way only to one that so many times more posts hold, a single edit away.
pub const FAR_RARER: u64 = 1000;
/// Fewest posts of a word that replaces one no post holds, by edits: what few posts hold may itself be a slip.
const FEWEST: [u64; 3] = [0, 2, 4];
/// Least log of the posts expected to hold the candidate with the rest, less the cost of the slip. A word that no post
/// holds may also be right and new, as if a fraction of a post held it. Measured on 100,000 posts: without it a quarter
/// of the right words that no post holds would be changed, with -2 one in twelve, with 0 one in 36, at 77, 67 and 51 %
/// of mistyped words put right.
const LEAST: f64 = -2.0;
/// Candidates whose place in posts is looked up.
const TRIED: usize = 12;
/// Candidates taken from the dictionary.
const FROM_DICTIONARY: usize = 256;
/// Posts with the rest of the query that are counted.
const CONTEXT: usize = 1024;
/// Posts that the prior of P(candidate | rest) stands for.
const PRIOR: f64 = 4.0;

/// A query that was probably meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Correction {
    /// The whole query in the query language, everything but the changed words as it was.
    pub text: String,
    /// The words that changed, in order.
    pub changed: Vec<Change>,
}

/// One changed word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// As typed.
    pub from: String,
    /// As posts write it.
    pub to: String,
}

/// What was probably meant by `query` (in the query language; one that does not parse is taken as plain words), or
/// `None` when nothing better is known. `restriction` is what every hit must satisfy.
///
/// A query whose words posts know costs a few dictionary look-ups; the dictionary is searched, and the restriction
/// applied, only for others.
pub fn correct(
    snapshot: &Snapshot,
    query: &str,
    restriction: Option<&Filter>,
) -> Result<Option<Correction>, SearchError> {
    let mut tree = parse(query).unwrap_or_else(|_| {
        Node::All(query.split_whitespace().map(|word| Node::Word(word.to_owned())).collect())
    });
    let parts = parts(&tree);
    if parts.len() > MAX_WORDS {
        return Ok(None);
    }
    let mut rest = Vec::new();
    let mut doubtful = Vec::new();
    for part in parts {
        match part {
            Node::Word(word) => match Doubt::of(snapshot, word)? {
                Some(doubt) => doubtful.push(doubt),
                None => rest.push(word.clone()),
            },
            Node::Phrase(text) => rest.push(text.clone()),
            Node::Tag(name) => rest.push(format!("#{name}")),
            Node::Mention(name) => rest.push(format!("@{name}")),
            _ => {}
        }
    }
    if doubtful.is_empty() {
        return Ok(None);
    }
    let allowed = snapshot.allowed(restriction)?.bitmap;
    let mut changed = Vec::new();
    for doubt in doubtful {
        match doubt.resolve(snapshot, &rest, &allowed)? {
            Some((word, spelled)) => {
                rest.push(word);
                changed.push(Change { from: doubt.typed, to: spelled });
            }
            // One that posts hold, rare as it is, still narrows what the others can mean; an unknown one would leave
            // nothing.
            None if doubt.posts > 0 => rest.push(doubt.typed),
            None => {}
        }
    }
    if changed.is_empty() {
        return Ok(None);
    }
    replace(&mut tree, &changed);
    Ok(Some(Correction { text: tree.to_string(), changed }))
}

/// The positive parts at the top of a query; of alternatives and groups nothing is corrected, for the words in them
/// need not stand together.
fn parts(tree: &Node) -> Vec<&Node> {
    match tree {
        Node::All(parts) => parts.iter().collect(),
        part => vec![part],
    }
}

fn replace(tree: &mut Node, changed: &[Change]) {
    let change = |node: &mut Node| {
        if let Node::Word(word) = node
            && let Some(change) = changed.iter().find(|change| change.from == *word)
        {
            word.clone_from(&change.to);
        }
    };
    match tree {
        Node::All(parts) => parts.iter_mut().for_each(change),
        part => change(part),
    }
}

/// A word that may be mistyped.
struct Doubt {
    typed: String,
    /// As the index holds words.
    word: String,
    /// Live posts that hold it.
    posts: u64,
}

impl Doubt {
    fn of(snapshot: &Snapshot, typed: &str) -> Result<Option<Self>, SearchError> {
        // Marks around a word, such as a question mark, are no part of it.
        let plain = typed.trim_matches(|c: char| !c.is_alphanumeric());
        let Some(word) = single_word(plain) else { return Ok(None) };
        let letters = word.len();
        let latin = word.bytes().all(|byte| byte.is_ascii_lowercase());
        if !latin || !(MIN_CHARS..=MAX_CHARS).contains(&letters) || is_stop_word(&plain.to_lowercase()) {
            return Ok(None);
        }
        let lexical = snapshot.lexical();
        // Every dead post still counts here, so this is no less than what live posts hold.
        let most = lexical.inflected(plain)?;
        if most.saturating_mul(FAR_RARER) > snapshot.live().len() && most > FEWEST[2] * 16 {
            return Ok(None);
        }
        let alone = [plain.to_owned()];
        let posts = lexical.together(&alone, snapshot.live(), CONTEXT)?.len() as u64;
        let known = posts > 0 && posts.saturating_mul(FAR_RARER) > snapshot.live().len();
        Ok((!known).then(|| Self { typed: typed.to_owned(), word, posts }))
    }

    /// The best candidate as the index holds it and as posts write it.
    fn resolve(
        &self,
        snapshot: &Snapshot,
        rest: &[String],
        allowed: &RoaringBitmap,
    ) -> Result<Option<(String, String)>, SearchError> {
        let lexical = snapshot.lexical();
        let long = self.word.len() >= LONG;
        // A word that posts hold is taken for a slip of one edit only.
        let distance = if long && self.posts == 0 { 2 } else { 1 };
        let found = lexical.near(&self.word, distance, usize::from(!long), FROM_DICTIONARY)?;
        let mut candidates: Vec<(f64, String)> = found
            .into_iter()
            .filter(|found| found.term.bytes().all(|byte| byte.is_ascii_lowercase()))
            .filter(|found| found.posts >= self.posts.saturating_mul(FAR_RARER))
            .map(|found| ((found.posts as f64).ln() - channel::cost(&self.word, &found.term), found.term))
            .collect();
        candidates.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        candidates.truncate(TRIED);
        if candidates.is_empty() {
            return Ok(None);
        }
        let context = Context::new(snapshot, rest, allowed)?;
        let mut best: Option<(f64, String, Vec<bowerbird_posts::Ordinal>)> = None;
        for (_, term) in candidates {
            let living = lexical.living(Vocabulary::Words, &term, snapshot.live(), 5)?;
            let fewest = FEWEST[edits(&self.word, &term).min(2)].max(self.posts.saturating_mul(FAR_RARER));
            if living.posts < fewest.max(1) {
                continue;
            }
            let Some(share) = context.share(snapshot, &term, living.posts)? else { continue };
            let score = share.ln() - channel::cost(&self.word, &term);
            if score + (snapshot.live().len() as f64).ln() < LEAST {
                continue;
            }
            if best.as_ref().is_none_or(|(least, ..)| score > *least) {
                best = Some((score, term, living.examples));
            }
        }
        let Some((_, term, examples)) = best else { return Ok(None) };
        let written = spelled(snapshot, &term, &examples)?;
        // Marks around the word stay.
        let start = self.typed.find(|c: char| c.is_alphanumeric()).unwrap_or(0);
        let end = self
            .typed
            .rfind(|c: char| c.is_alphanumeric())
            .map_or(self.typed.len(), |at| at + self.typed[at..].chars().next().map_or(0, char::len_utf8));
        let written = format!("{}{written}{}", &self.typed[..start], &self.typed[end..]);
        // An accent that posts write and the person did not is no mistake.
        Ok((folded(&written) != folded(&self.typed)).then_some((term, written)))
    }
}

/// Whether two words are one or two edits apart, by their lengths and letters.
fn edits(a: &str, b: &str) -> usize {
    strsim::osa_distance(a, b)
}

/// Live posts with the rest of the query.
struct Context<'a> {
    rest: &'a [String],
    allowed: &'a RoaringBitmap,
    sample: PostSample,
    /// Whether the rest says anything.
    says: bool,
}

impl<'a> Context<'a> {
    fn new(snapshot: &Snapshot, rest: &'a [String], allowed: &'a RoaringBitmap) -> Result<Self, SearchError> {
        let sample = snapshot.lexical().together(rest, allowed, CONTEXT)?;
        let says = rest.iter().any(|word| !is_stop_word(&word.to_lowercase()));
        Ok(Self { rest, allowed, sample, says })
    }

    /// P(term | rest), smoothed; `None` when no live post that passes the filter holds both.
    fn share(&self, snapshot: &Snapshot, term: &str, posts: u64) -> Result<Option<f64>, SearchError> {
        let lexical = snapshot.lexical();
        let every = snapshot.live().len().max(1) as f64;
        let together = lexical.holding(Vocabulary::Words, term, &self.sample)?;
        if together == 0 {
            // Not in the sample, or the rest says nothing; the filters count in any case.
            let mut words = if self.says { self.rest.to_vec() } else { Vec::new() };
            words.push(term.to_owned());
            if lexical.together(&words, self.allowed, 1)?.is_empty() {
                return Ok(None);
            }
        }
        let sampled = self.sample.len() as f64;
        Ok(Some((together as f64 + PRIOR * posts as f64 / every) / (sampled + PRIOR)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_words_at_the_top_change() {
        let mut tree = parse("slep -slep \"slep\" (slep OR cat) #slep from:slep slep").expect("parses");
        let changed = [Change { from: "slep".into(), to: "sleep".into() }];
        replace(&mut tree, &changed);
        assert_eq!(tree.to_string(), "sleep -slep \"slep\" (slep OR cat) #slep from:slep sleep");
        let mut one = parse("slep").expect("parses");
        replace(&mut one, &changed);
        assert_eq!(one.to_string(), "sleep");
    }
}
