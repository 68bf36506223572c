//! A query looked up in a snapshot: which terms count, how rare they are, where their postings are.

use std::collections::HashSet;
use std::sync::OnceLock;

use tantivy::postings::TermInfo;

use crate::analysis::{Purpose, Token, tokens};
use crate::bm25::{Weights, idf};
use crate::bounds::Worth;
use crate::error::io_fault;
use crate::language::Family;
use crate::query::{MAX_QUERY_BYTES, MAX_QUERY_TERMS, cut, plain_name};
use crate::snapshot::Snapshot;
use crate::{BagQuery, LexicalError, LexicalSearcher, Near, TermKind};

/// Share of the summed idf of its words that a phrase adds. Half, because every word counts on its own besides: a
/// post with the phrase beats one with the words apart, but not one with a rarer word more.
pub(crate) const PHRASE_SHARE: f32 = 0.5;
/// Most words of a phrase that must stand side by side.
pub(crate) const MAX_PHRASE_WORDS: usize = 32;

/// A word of the query, by family; `None` where it is a stop word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    /// As it was looked up in the first family that has it.
    pub text: String,
    pub forms: [Option<String>; 3],
}

/// The analysed query, before it meets a snapshot.
#[derive(Clone, Debug, Default)]
pub(crate) struct Analysed {
    pub words: Vec<Word>,
    pub tags: Vec<String>,
    pub mentions: Vec<String>,
    /// Phrases and near words, each with its share of the summed idf of its words.
    pub phrases: Vec<(PhraseForms, f32)>,
    pub prefixes: Vec<String>,
}

/// Words that stand together: text, and by family the words with their positions from 0.
#[derive(Clone, Debug)]
pub(crate) struct PhraseForms {
    pub text: String,
    pub words: [Vec<(u32, String)>; 3],
    /// Most other words among them, in any order; `None` when they stand side by side in this order.
    pub within: Option<u32>,
}

impl PhraseForms {
    /// The words of `text` by family; one word or none is a phrase too.
    pub(crate) fn new(text: &str) -> Self {
        let words = by_family(text, Purpose::Phrase).map(|tokens| {
            let first = tokens.first().map_or(0, |token| token.position);
            let words = tokens.into_iter().take(MAX_PHRASE_WORDS);
            words.map(|token| (token.position - first, token.text)).collect()
        });
        Self { text: text.trim().to_owned(), words, within: None }
    }

    /// The words of `text`, each once, that stand near each other.
    pub(crate) fn near(text: &str, within: u32) -> Self {
        let mut forms = Self { within: Some(within), ..Self::new(text) };
        for words in &mut forms.words {
            let mut seen = HashSet::new();
            words.retain(|(_, form)| seen.insert(form.clone()));
        }
        forms
    }

    pub(crate) fn len(&self) -> usize {
        self.words[0].len()
    }
}

fn by_family(text: &str, purpose: Purpose) -> [Vec<Token>; 3] {
    let text = cut(text, MAX_QUERY_BYTES);
    Family::ALL.map(|family| tokens(text, family, purpose))
}

impl Analysed {
    /// Analyses within the limits: [`MAX_QUERY_BYTES`] of each text, [`MAX_QUERY_TERMS`] in all.
    pub(crate) fn new(query: &BagQuery) -> Self {
        let phrases = query.phrases.iter().take(MAX_QUERY_TERMS);
        let mut phrases: Vec<(PhraseForms, f32)> =
            phrases.map(|text| (PhraseForms::new(text), PHRASE_SHARE)).collect();
        let near = query.near.iter().take(MAX_QUERY_TERMS);
        phrases.extend(near.map(|near| (PhraseForms::near(&near.text, near.within), near.share)));
        let mut words = Vec::new();
        for text in query.terms.iter().take(MAX_QUERY_TERMS) {
            let families = by_family(text, Purpose::Query);
            for at in 0..families[0].len() {
                words
                    .push(families.each_ref().map(|tokens| tokens.get(at).map(|t| (t.text.clone(), t.stop))));
            }
        }
        for (phrase, _) in &phrases {
            let families = by_family(&phrase.text, Purpose::Phrase);
            for at in 0..families[0].len() {
                words
                    .push(families.each_ref().map(|tokens| tokens.get(at).map(|t| (t.text.clone(), t.stop))));
            }
        }
        let names = |names: &[String], sigils| {
            let mut plain: Vec<String> = Vec::new();
            for name in names.iter().take(MAX_QUERY_TERMS) {
                let name = plain_name(name, sigils);
                if !name.is_empty() && !plain.contains(&name) {
                    plain.push(name);
                }
            }
            plain
        };
        let mut tags = names(&query.tags, ['#', '＃']);
        let mut mentions = names(&query.mentions, ['@', '＠']);
        let content = |word: &[Option<(String, bool)>; 3]| word.iter().flatten().any(|(_, stop)| !stop);
        let mut prefixes: Vec<String> = Vec::new();
        for prefix in query.prefixes.iter().take(MAX_QUERY_TERMS) {
            let prefix = prefix.trim();
            if !prefix.is_empty() && !prefixes.iter().any(|other| other == prefix) {
                prefixes.push(prefix.to_owned());
            }
        }
        let other = !tags.is_empty() || !mentions.is_empty() || !prefixes.is_empty();
        let keep_stop_words = !other && !words.iter().any(content);
        let mut seen = HashSet::new();
        let mut kept = Vec::new();
        for word in words {
            let mut families = word.into_iter().enumerate();
            let forms: [Option<String>; 3] = std::array::from_fn(|_| {
                let (family, form) = families.next()?;
                let (form, stop) = form?;
                // Two words with the same stem in one family are one term there.
                ((keep_stop_words || !stop) && seen.insert((family, form.clone()))).then_some(form)
            });
            if let Some(text) = forms.iter().flatten().next() {
                kept.push(Word { text: text.clone(), forms });
            }
        }
        kept.truncate(MAX_QUERY_TERMS);
        tags.truncate(MAX_QUERY_TERMS - kept.len());
        mentions.truncate(MAX_QUERY_TERMS - kept.len() - tags.len());
        prefixes.truncate(MAX_QUERY_TERMS - kept.len() - tags.len() - mentions.len());
        phrases.retain(|(phrase, share)| phrase.len() > 1 && share.is_finite() && *share > 0.0);
        phrases.truncate(MAX_QUERY_TERMS - kept.len() - tags.len() - mentions.len() - prefixes.len());
        Self { words: kept, tags, mentions, phrases, prefixes }
    }
}

impl LexicalSearcher {
    /// `query` with a bonus of `share` of their idf for every two neighbouring words of its terms that a post has
    /// with at most `within` others between them, in any order: sequential dependence without the ordered window.
    ///
    /// Off by default: with neighbours side by side and a share of .05, nDCG@10 goes from .4086 to .4129 on reddit posts
    /// by their titles, .6990 to .7015 on SciFact train, .6802 to .6798 on its test split, .4407 to .4436 on Vaswani and
    /// .4813 to .4848 on Cranfield, all within noise, and it takes one and a half to two times as long. Measured by
    /// `benches/lexical_quality.rs`.
    ///
    /// Source: Metzler and Croft, doi:10.1145/1076034.1076115.
    pub fn with_proximity(&self, mut query: BagQuery, share: f32, within: u32) -> BagQuery {
        let mut words = Vec::new();
        for text in query.terms.iter().take(MAX_QUERY_TERMS) {
            let text = cut(text, MAX_QUERY_BYTES);
            let tokens = tokens(text, Family::English, Purpose::Phrase).into_iter();
            words.extend(tokens.filter(|token| !token.stop).map(|token| text[token.bytes].to_owned()));
        }
        let pairs = words.windows(2).filter(|pair| pair[0] != pair[1]).take(MAX_QUERY_TERMS);
        query.near.extend(pairs.map(|pair| Near { text: pair.join(" "), within, share }));
        query
    }
}

/// One scored term.
pub(crate) struct Term {
    pub kind: TermKind,
    pub text: String,
    /// Rarity, times the weight of a word that is not the person's own; of a phrase its share of the sum of its
    /// words.
    pub idf: f32,
    /// Posts with it, deleted ones not yet merged away included; of a phrase an upper bound.
    pub df: u64,
    /// By segment: the postings, each with the body it is in (always 0 for other fields).
    pub postings: Vec<Vec<(usize, TermInfo)>>,
    /// Words of a phrase or of near ones, by family.
    pub phrase: Option<PhraseForms>,
    /// Not a word of the person, but one out of posts found before.
    pub expanded: bool,
}

/// The query in the snapshot.
pub(crate) struct Plan {
    pub terms: Vec<Term>,
    pub weights: Weights,
    /// Of each term what a posting adds, made when a long list is met.
    pub worths: Vec<OnceLock<Worth>>,
    /// What a post of average length scores that holds every word, tag and mention once, also those that no post
    /// holds.
    pub ideal: f32,
}

impl Plan {
    pub(crate) fn new(snapshot: &Snapshot, query: &BagQuery) -> Result<Self, LexicalError> {
        let analysed = Analysed::new(query);
        let (mut terms, mut ideal) = (Vec::new(), 0.0);
        let absent = idf(snapshot.posts, 0);
        let mut expansions: Vec<_> = query.expansions.iter().take(MAX_QUERY_TERMS).collect();
        for word in &analysed.words {
            // A word whose stem came before in some family asks for nothing new.
            let new = word.forms.iter().all(Option::is_some);
            let term = snapshot.term(TermKind::Word, word.text.clone(), &word.forms)?;
            ideal += term.as_ref().map_or(if new { absent } else { 0.0 }, |term| term.idf);
            let Some(mut term) = term else { continue };
            let mut weight = 1.0;
            expansions.retain(|expansion| {
                let same = word.forms[expansion.family as usize].as_deref() == Some(&expansion.text);
                weight += if same { expansion.weight } else { 0.0 };
                !same
            });
            term.idf *= weight;
            terms.push(term);
        }
        for (kind, names) in [(TermKind::Tag, analysed.tags), (TermKind::Mention, analysed.mentions)] {
            for name in names {
                let term = snapshot.term(kind, name.clone(), &[Some(name), None, None])?;
                ideal += term.as_ref().map_or(absent, |term| term.idf);
                terms.extend(term);
            }
        }
        for prefix in analysed.prefixes {
            let (term, exact) = snapshot.prefix(&prefix)?;
            ideal += term.as_ref().map_or(absent, |term| term.idf);
            terms.extend(term);
            // The word as it stands comes on top, and only when it is not a word of the query already.
            terms.extend(exact.filter(|exact| !analysed.words.iter().any(|word| word.text == exact.text)));
        }
        for expansion in expansions {
            let mut forms = [None, None, None];
            forms[expansion.family as usize] = Some(expansion.text.clone());
            if let Some(term) = snapshot.term(TermKind::Word, expansion.text.clone(), &forms)? {
                terms.push(Term { idf: term.idf * expansion.weight, expanded: true, ..term });
            }
        }
        for (phrase, share) in analysed.phrases {
            terms.push(snapshot.phrase(phrase, share)?);
        }
        let weights =
            Weights::new(&snapshot.config, snapshot.posts, snapshot.tokens, terms.iter().map(|t| t.idf));
        let worths = terms.iter().map(|_| OnceLock::new()).collect();
        Ok(Self { terms, weights, worths, ideal })
    }
}

impl Snapshot {
    /// Looks a term up in every segment; `None` when no post holds it.
    pub(crate) fn term(
        &self,
        kind: TermKind,
        text: String,
        forms: &[Option<String>; 3],
    ) -> Result<Option<Term>, LexicalError> {
        let (mut df, mut postings) = (0, Vec::with_capacity(self.segments.len()));
        for segment in &self.segments {
            let mut here = Vec::new();
            for (slot, form) in forms.iter().enumerate() {
                let Some(form) = form else { continue };
                let (_, index) = segment.field(kind, slot);
                let info = index.terms().get(form.as_bytes()).map_err(|error| io_fault(&self.dir, &error))?;
                if let Some(info) = info {
                    df += u64::from(info.doc_freq);
                    here.push((slot, info));
                }
            }
            postings.push(here);
        }
        let idf = idf(self.posts, df);
        Ok((df > 0).then_some(Term { kind, text, idf, df, postings, phrase: None, expanded: false }))
    }

    fn phrase(&self, phrase: PhraseForms, share: f32) -> Result<Term, LexicalError> {
        let (mut sum, mut df) = (0.0, self.posts);
        for at in 0..phrase.len() {
            let forms = phrase.words.each_ref().map(|words| words.get(at).map(|(_, form)| form.clone()));
            let found = self.term(TermKind::Word, String::new(), &forms)?;
            df = df.min(found.as_ref().map_or(0, |term| term.df));
            sum += found.map_or_else(|| idf(self.posts, 0), |term| term.idf);
        }
        Ok(Term {
            kind: if phrase.within.is_some() { TermKind::Near } else { TermKind::Phrase },
            text: phrase.text.clone(),
            idf: share * sum,
            df,
            postings: self.segments.iter().map(|_| Vec::new()).collect(),
            phrase: Some(phrase),
            expanded: false,
        })
    }

    /// The words that start with `prefix` as one term, and the word that it is itself.
    fn prefix(&self, prefix: &str) -> Result<(Option<Term>, Option<Term>), LexicalError> {
        let mut postings = vec![Vec::new(); self.segments.len()];
        let mut df = 0;
        for (word, count) in self.expand(prefix)?.words {
            df += count;
            for (segment, here) in self.segments.iter().zip(&mut postings) {
                let (_, index) = segment.field(TermKind::Prefix, 0);
                let info = index.terms().get(word.as_bytes()).map_err(|error| io_fault(&self.dir, &error))?;
                here.extend(info.map(|info| (0, info)));
            }
        }
        let df = df.min(self.posts);
        let term = (df > 0).then(|| Term {
            kind: TermKind::Prefix,
            text: format!("{prefix}*"),
            idf: idf(self.posts, df),
            df,
            postings,
            phrase: None,
            expanded: false,
        });
        let mut families = by_family(prefix, Purpose::Query);
        if families[0].len() != 1 {
            return Ok((term, None));
        }
        let forms = families.each_mut().map(|tokens| tokens.pop().map(|token| token.text));
        let text = forms.iter().flatten().next().cloned().unwrap_or_default();
        Ok((term, self.term(TermKind::Word, text, &forms)?))
    }
}
