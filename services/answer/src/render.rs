//! Sentences to one text with citation marks.
//!
//! `text = sentence { " " sentence }`, where each sentence is followed by a space and its marks: `Coffee may lower the
//! risk. [1][3] Tea does not. [2]`. `Sentence::start` and `end` are character positions of the sentence alone.

use jiff::Timestamp;

use crate::types::{Citation, Sentence};

/// What a sentence is in a conflict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Side {
    /// Number of the conflict.
    pub conflict: usize,
    /// Words before the claim.
    pub lead: String,
}

/// Our words before a side of a conflict whose post was written then.
pub(crate) fn lead(first: bool, written: Timestamp) -> String {
    let date = written.strftime("%Y-%m-%d");
    if first { format!("Posts disagree. On {date}: ") } else { format!("On {date}: ") }
}

/// Gives the sides of conflicts their leads again after some have gone; a side that is left alone loses its own.
pub(crate) fn settle_leads(sentences: &mut [Sentence]) {
    for at in 0..sentences.len() {
        let Some(conflict) = sentences[at].conflict else { continue };
        let sides = |range: std::ops::Range<usize>| {
            sentences[range].iter().filter(|s| s.conflict == Some(conflict)).count()
        };
        let (before, after) = (sides(0..at), sides(at + 1..sentences.len()));
        let written = sentences[at].citations.first().map(|citation| citation.created_at);
        let lead = written.filter(|_| before + after > 0).map(|written| lead(before == 0, written));
        let sentence = &mut sentences[at];
        sentence.text = lead.clone().unwrap_or_default() + sentence.claim();
        if lead.is_none() {
            sentence.conflict = None;
        }
        sentence.lead = lead;
    }
}

/// The marks of a sentence: `[1][3]`, each number once, in the order cited.
pub fn marks(citations: &[Citation]) -> String {
    let mut seen = Vec::new();
    for citation in citations {
        let mark = format!("[{}]", citation.n);
        if !seen.contains(&mark) {
            seen.push(mark);
        }
    }
    seen.concat()
}

/// The text of an answer.
pub fn render(sentences: &[Sentence]) -> String {
    let parts: Vec<String> =
        sentences.iter().map(|s| format!("{} {}", s.text, marks(&s.citations))).collect();
    parts.join(" ")
}

/// Gives each new sentence its place.
#[derive(Debug, Default)]
pub struct Placer {
    chars: usize,
}

impl Placer {
    /// First and one past the last character of a sentence that is added with these citations.
    pub fn place(&mut self, text: &str, citations: &[Citation]) -> (usize, usize) {
        let start = if self.chars == 0 { 0 } else { self.chars + 1 };
        let end = start + text.chars().count();
        self.chars = end + 1 + marks(citations).chars().count();
        (start, end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Origin, Verdict};

    fn sentence(placer: &mut Placer, text: &str, numbers: &[usize]) -> Sentence {
        let citation = |n: &usize| Citation {
            n: *n,
            post_id: "p".into(),
            author: "a".into(),
            created_at: jiff::Timestamp::UNIX_EPOCH,
            quote: "q".into(),
            start: 0,
            end: 1,
        };
        let citations: Vec<Citation> = numbers.iter().map(citation).collect();
        let (start, end) = placer.place(text, &citations);
        let (verdict, origin) = (Verdict::Supported, Origin::Extracted);
        Sentence {
            text: text.into(),
            lead: None,
            conflict: None,
            start,
            end,
            citations,
            verdict,
            probability: 1.0,
            origin,
        }
    }

    #[test]
    fn leads_follow_what_is_left_of_a_conflict() {
        let mut placer = Placer::default();
        let side = |sentence: Sentence, first| {
            let lead = lead(first, Timestamp::UNIX_EPOCH);
            let text = lead.clone() + &sentence.text;
            Sentence { text, lead: Some(lead), conflict: Some(1), ..sentence }
        };
        let all = [
            side(sentence(&mut placer, "Tea helps.", &[1]), true),
            side(sentence(&mut placer, "Tea does not help.", &[2]), false),
            side(sentence(&mut placer, "Tea never helps.", &[3]), false),
            sentence(&mut placer, "Milk is white.", &[4]),
        ];
        assert_eq!(all[0].claim(), "Tea helps.");
        let settled = |kept: &[usize]| -> Vec<String> {
            let mut kept: Vec<Sentence> = kept.iter().map(|&at| all[at].clone()).collect();
            settle_leads(&mut kept);
            assert!(kept.iter().all(|s| s.lead.is_some() == s.conflict.is_some()));
            kept.into_iter().map(|s| s.text).collect()
        };
        assert_eq!(settled(&[0, 1, 2, 3]), all.each_ref().map(|s| s.text.clone()));
        assert_eq!(
            settled(&[1, 2]),
            ["Posts disagree. On 1970-01-01: Tea does not help.", "On 1970-01-01: Tea never helps."]
        );
        assert_eq!(settled(&[1, 3]), ["Tea does not help.", "Milk is white."]);
    }

    #[test]
    fn places_are_those_in_the_rendered_text() {
        let mut placer = Placer::default();
        let sentences = [
            sentence(&mut placer, "Café ☕ helps.", &[1, 12, 1]),
            sentence(&mut placer, "Tea does not", &[2]),
            sentence(&mut placer, "Ünd so.", &[3]),
        ];
        let text = render(&sentences);
        assert_eq!(text, "Café ☕ helps. [1][12] Tea does not [2] Ünd so. [3]");
        for s in &sentences {
            let part: String = text.chars().skip(s.start).take(s.end - s.start).collect();
            assert_eq!(part, s.text);
        }
        assert_eq!(render(&[]), "");
    }
}
