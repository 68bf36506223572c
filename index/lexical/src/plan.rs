//! A query looked up in a snapshot: which terms count, how rare they are, where their postings are.

use std::collections::HashSet;

use tantivy::postings::TermInfo;

use crate::analysis::{Purpose, Token, tokens};
use crate::bm25::{Lengths, idf};
use crate::error::io_fault;
use crate::language::Family;
use crate::query::{MAX_QUERY_BYTES, MAX_QUERY_TERMS, cut, plain_name};
use crate::snapshot::Snapshot;
use crate::{BagQuery, LexicalError, TermKind};

/// Share of the summed idf of its words that a phrase adds. Half, because every word counts on its own besides: a
/// post with the phrase beats one with the words apart, but not one with a rarer word more.
const PHRASE_SHARE: f32 = 0.5;
/// Most words of a phrase that must stand side by side.
const MAX_PHRASE_WORDS: usize = 32;

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
    pub phrases: Vec<PhraseForms>,
}

/// A phrase of at least two words: text, and by family its words with their positions from 0.
#[derive(Clone, Debug)]
pub(crate) struct PhraseForms {
    pub text: String,
    pub words: [Vec<(u32, String)>; 3],
}

impl PhraseForms {
    /// The words of `text` by family; one word or none is a phrase too.
    pub(crate) fn new(text: &str) -> Self {
        let words = by_family(text, Purpose::Phrase).map(|tokens| {
            let first = tokens.first().map_or(0, |token| token.position);
            let words = tokens.into_iter().take(MAX_PHRASE_WORDS);
            words.map(|token| (token.position - first, token.text)).collect()
        });
        Self { text: text.trim().to_owned(), words }
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
        let phrases: Vec<PhraseForms> =
            query.phrases.iter().take(MAX_QUERY_TERMS).map(|p| PhraseForms::new(p)).collect();
        let mut words = Vec::new();
        for text in query.terms.iter().take(MAX_QUERY_TERMS) {
            let families = by_family(text, Purpose::Query);
            for at in 0..families[0].len() {
                words
                    .push(families.each_ref().map(|tokens| tokens.get(at).map(|t| (t.text.clone(), t.stop))));
            }
        }
        for phrase in &phrases {
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
        let keep_stop_words = tags.is_empty() && mentions.is_empty() && !words.iter().any(content);
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
        let mut phrases: Vec<PhraseForms> = phrases.into_iter().filter(|phrase| phrase.len() > 1).collect();
        phrases.truncate(MAX_QUERY_TERMS - kept.len() - tags.len() - mentions.len());
        Self { words: kept, tags, mentions, phrases }
    }
}

/// One scored term.
pub(crate) struct Term {
    pub kind: TermKind,
    pub text: String,
    /// For a phrase its share of the sum of its words.
    pub idf: f32,
    /// By segment: the postings, each with the body it is in (always 0 for tags and mentions).
    pub postings: Vec<Vec<(usize, TermInfo)>>,
    /// Words of a phrase, by family.
    pub phrase: Option<PhraseForms>,
}

/// The query in the snapshot. Terms are added up in this order, everywhere.
pub(crate) struct Plan {
    pub terms: Vec<Term>,
    pub lengths: Lengths,
    /// What a post of average length scores that holds every word, tag and mention once, also those that no post
    /// holds.
    pub ideal: f32,
}

impl Plan {
    pub(crate) fn new(snapshot: &Snapshot, query: &BagQuery) -> Result<Self, LexicalError> {
        let analysed = Analysed::new(query);
        let mut terms = Vec::new();
        let mut absent = 0;
        for word in analysed.words {
            // A word whose stem came before in some family asks for nothing new.
            let new = word.forms.iter().all(Option::is_some);
            let term = snapshot.term(TermKind::Word, word.text, &word.forms)?;
            absent += usize::from(new && term.is_none());
            terms.extend(term);
        }
        for (kind, names) in [(TermKind::Tag, analysed.tags), (TermKind::Mention, analysed.mentions)] {
            for name in names {
                let term = snapshot.term(kind, name.clone(), &[Some(name), None, None])?;
                absent += usize::from(term.is_none());
                terms.extend(term);
            }
        }
        let ideal = terms.iter().map(|term| term.idf).sum::<f32>() + absent as f32 * idf(snapshot.posts, 0);
        for phrase in analysed.phrases {
            terms.push(snapshot.phrase(phrase)?);
        }
        let lengths = Lengths::new(&snapshot.config, snapshot.posts, snapshot.tokens);
        Ok(Self { terms, lengths, ideal })
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
                let index = match kind {
                    TermKind::Tag => &segment.tags,
                    TermKind::Mention => &segment.mentions,
                    TermKind::Word | TermKind::Phrase => &segment.bodies[slot].index,
                };
                let info = index.terms().get(form.as_bytes()).map_err(|error| io_fault(&self.dir, &error))?;
                if let Some(info) = info {
                    df += u64::from(info.doc_freq);
                    here.push((slot, info));
                }
            }
            postings.push(here);
        }
        Ok((df > 0).then(|| Term { kind, text, idf: idf(self.posts, df), postings, phrase: None }))
    }

    fn phrase(&self, phrase: PhraseForms) -> Result<Term, LexicalError> {
        let mut sum = 0.0;
        for at in 0..phrase.len() {
            let forms = phrase.words.each_ref().map(|words| words.get(at).map(|(_, form)| form.clone()));
            let found = self.term(TermKind::Word, String::new(), &forms)?;
            sum += found.map_or_else(|| idf(self.posts, 0), |term| term.idf);
        }
        Ok(Term {
            kind: TermKind::Phrase,
            text: phrase.text.clone(),
            idf: PHRASE_SHARE * sum,
            postings: self.segments.iter().map(|_| Vec::new()).collect(),
            phrase: Some(phrase),
        })
    }
}
