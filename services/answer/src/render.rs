//! Sentences to one text with citation marks.
//!
//! `text = sentence { " " sentence }`, where each sentence is followed by a space and its marks: `Coffee may lower the
//! risk. [1][3] Tea does not. [2]`. `Sentence::start` and `end` are character positions of the sentence alone.

use crate::types::{Citation, Sentence};

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
        let citation =
            |n: &usize| Citation { n: *n, post_id: "p".into(), quote: "q".into(), start: 0, end: 1 };
        let citations: Vec<Citation> = numbers.iter().map(citation).collect();
        let (start, end) = placer.place(text, &citations);
        let (verdict, origin) = (Verdict::Supported, Origin::Extracted);
        Sentence { text: text.into(), start, end, citations, verdict, probability: 1.0, origin }
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
