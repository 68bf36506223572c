//! What an ad may say: a first look by rules, before somebody does.
//!
//! Subjects are a list in `data/policy.tsv`, short enough to be read and argued about; how a text is written (shouting,
//! telephone numbers, letters that pass for others) is looked at here. The rules read words, not meaning: what they
//! let through may still be wrong, and an operator's decision is above theirs.

use std::borrow::Cow;
use std::sync::LazyLock;

use unicode_normalization::UnicodeNormalization;
use unicode_segmentation::UnicodeSegmentation;

use crate::booking::{Review, Words};
use crate::text::{singular, words};

/// What the rules say of an ad.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub review: Review,
    /// Subject of the rule that decided; empty when none did.
    pub topic: Cow<'static, str>,
    /// What was found and what would help.
    pub reason: String,
}

/// One line of the list.
struct Rule {
    topic: &'static str,
    review: Review,
    terms: Vec<Term>,
    unless: Vec<Term>,
}

/// Words in a row, or two of them near each other.
struct Term {
    shown: &'static str,
    parts: Vec<Vec<&'static str>>,
}

/// Most words between the two halves of a term.
const NEAR: usize = 3;

static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let lines = include_str!("../data/policy.tsv").lines();
    lines.filter(|line| !line.starts_with('#') && !line.trim().is_empty()).filter_map(rule).collect()
});

fn rule(line: &'static str) -> Option<Rule> {
    let mut columns = line.split('\t');
    let topic = columns.next()?;
    let review = Review::parse(columns.next()?)?;
    let terms = terms(columns.next()?);
    Some(Rule { topic, review, terms, unless: terms_or_none(columns.next()) })
}

fn terms_or_none(column: Option<&'static str>) -> Vec<Term> {
    column.map(terms).unwrap_or_default()
}

fn terms(column: &'static str) -> Vec<Term> {
    let term = |shown: &'static str| Term {
        shown,
        parts: shown.split('~').map(|part| part.split_ascii_whitespace().collect()).collect(),
    };
    column.split(',').map(str::trim).filter(|shown| !shown.is_empty()).map(term).collect()
}

impl Term {
    fn is_in(&self, text: &Text) -> bool {
        let places: Vec<Vec<usize>> = self.parts.iter().map(|part| text.places(part)).collect();
        match places.as_slice() {
            [places] => !places.is_empty(),
            [first, second] => first.iter().any(|a| {
                second.iter().any(|b| {
                    let (from, to) =
                        if a < b { (a + self.parts[0].len(), *b) } else { (b + self.parts[1].len(), *a) };
                    to >= from && to - from <= NEAR
                })
            }),
            _ => false,
        }
    }
}

/// The words of an ad, as written in lower case and without plural endings.
struct Text {
    literal: Vec<String>,
    singular: Vec<String>,
}

impl Text {
    /// Words past this many are not read: an ad that is full has fewer.
    const LIMIT: usize = 2000;

    fn new(text: &str) -> Self {
        let literal = words(text, Self::LIMIT);
        let singular = literal.iter().map(|word| singular(word)).collect();
        Self { literal, singular }
    }

    /// Where the words of `part` stand in a row.
    fn places(&self, part: &[&str]) -> Vec<usize> {
        let fits = |at: usize| {
            part.iter().enumerate().all(|(offset, wanted)| {
                let (literal, singular) = (&self.literal[at + offset], &self.singular[at + offset]);
                match *wanted {
                    "*" => true,
                    "#" => literal.chars().all(|c| c.is_numeric() || matches!(c, '.' | ',')),
                    wanted => wanted == literal || wanted == singular,
                }
            })
        };
        (0..(self.literal.len() + 1).saturating_sub(part.len())).filter(|at| fits(*at)).collect()
    }
}

/// Looks at everything an ad says; the severest finding decides, of equals the first.
pub(crate) fn judge(ad: &Words) -> Verdict {
    let mut said = vec![ad.headline.as_str(), &ad.text, &ad.display_url];
    said.extend(ad.facts.iter().map(String::as_str));
    said.extend(ad.assets.iter().map(|asset| asset.alt.as_str()));
    let mut findings: Vec<Verdict> = Vec::new();
    let mut find = |review, topic: &'static str, reason| {
        findings.push(Verdict { review, topic: topic.into(), reason });
    };
    // Each part by itself: words of two parts make no phrase.
    for part in &said {
        subjects(part, &said, &mut find);
        manner(part, &mut find);
    }
    if host(&ad.display_url) != host(&ad.landing_url) {
        let reason = format!("{} is shown, but the ad leads to {}", ad.display_url, ad.landing_url);
        find(Review::Disapproved, "destination", reason);
    }
    findings.into_iter().rev().max_by_key(|verdict| verdict.review).unwrap_or_default()
}

fn subjects(part: &str, said: &[&str], find: &mut impl FnMut(Review, &'static str, String)) {
    let text = Text::new(part);
    let lifted = |rule: &Rule| {
        said.iter().any(|part| {
            let text = Text::new(part);
            rule.unless.iter().any(|term| term.is_in(&text))
        })
    };
    for rule in RULES.iter() {
        if let Some(term) = rule.terms.iter().find(|term| term.is_in(&text))
            && !lifted(rule)
        {
            find(rule.review, rule.topic, format!("says {:?}", term.shown));
        }
    }
}

/// How it is written rather than what.
fn manner(part: &str, find: &mut impl FnMut(Review, &'static str, String)) {
    let disapproved = Review::Disapproved;
    if ["!!", "??", "!?", "?!"].iter().any(|marks| part.contains(marks)) || part.matches('!').count() > 2 {
        find(
            disapproved,
            "shouting",
            format!("{part:?} has a row of exclamation or question marks: use one"),
        );
    }
    let shouted = |word: &&str| {
        word.chars().filter(|c| c.is_uppercase()).count() >= 4 && !word.chars().any(char::is_lowercase)
    };
    let (upper, letters) = (count(part, char::is_uppercase), count(part, char::is_alphabetic));
    if part.unicode_words().filter(shouted).count() >= 3 || letters >= 12 && upper * 2 > letters {
        find(disapproved, "shouting", format!("{part:?} is in capitals: write it as a sentence"));
    }
    if let Some(word) = part.split_whitespace().find(|word| is_disguised(word)) {
        let reason =
            format!("{word:?} mixes letters of different scripts, styled or invisible: write plain ones");
        find(disapproved, "obfuscation", reason);
    }
    if let Some(number) = telephone(part) {
        let reason = format!("{number:?} looks like a telephone number: let the landing page show it");
        find(disapproved, "contact", reason);
    }
}

fn count(text: &str, is: impl Fn(char) -> bool) -> usize {
    text.chars().filter(|c| is(*c)).count()
}

/// Letters of one script in the middle of another's, letters that are drawn to look like others, or a joiner where
/// nothing is joined.
fn is_disguised(word: &str) -> bool {
    let latin =
        |c: char| c.is_ascii_alphabetic() || matches!(c, '\u{c0}'..='\u{24f}' | '\u{1e00}'..='\u{1eff}');
    let alike = |c: char| {
        matches!(c, '\u{370}'..='\u{58f}' | '\u{13a0}'..='\u{13ff}' | '\u{ab70}'..='\u{abbf}')
            && c.is_alphabetic()
    };
    // Fullwidth, mathematical and enclosed letters are plain ones after normalisation.
    let styled = |c: char| {
        !c.is_ascii() && c > '\u{ff}' && {
            let mut plain = c.nfkc();
            plain.next().is_some_and(|plain| plain.is_ascii_alphabetic()) && plain.next().is_none()
        }
    };
    let joiner = |c: char| matches!(c, '\u{200c}' | '\u{200d}');
    let parts = word.split(|c: char| !c.is_alphanumeric() && !joiner(c));
    let mixed = |part: &str| {
        part.chars().any(latin) && part.chars().any(|c| alike(c) || joiner(c)) || part.chars().any(styled)
    };
    parts.into_iter().any(mixed) || crate::import::has_hidden(word)
}

/// A run of digits and separators that is long enough and written like a telephone number.
fn telephone(text: &str) -> Option<&str> {
    let belongs =
        |c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '(' | ')' | ' ' | '/' | '.' | '\u{2011}');
    text.split(|c: char| !belongs(c)).map(str::trim).find(|run| {
        let groups: Vec<usize> =
            run.split(|c: char| !c.is_ascii_digit()).map(str::len).filter(|len| *len > 0).collect();
        let digits: usize = groups.iter().sum();
        let local = matches!(groups.as_slice(), [3, 4] | [3, 3, 4] | [1, 3, 3, 4]);
        (run.starts_with('+') || run.starts_with("00")) && digits >= 7
            || local
            || digits >= 9 && groups.len() <= 6
    })
}

/// The host of an address, with or without scheme, without `www.`, in lower case.
fn host(address: &str) -> String {
    let rest = address.strip_prefix("https://").unwrap_or(address);
    let host = rest.split(['/', '?', '#', ':']).next().unwrap_or_default().to_lowercase();
    host.strip_prefix("www.").map_or(host.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ad(headline: &str, text: &str) -> Words {
        Words {
            headline: headline.into(),
            text: text.into(),
            landing_url: "https://www.shop.example/a".into(),
            display_url: "shop.example".into(),
            facts: Vec::new(),
            assets: Vec::new(),
        }
    }

    #[test]
    fn each_subject_is_found_and_its_neighbours_are_not() {
        assert!(RULES.len() >= 15, "the list is read: {}", RULES.len());
        for (text, review, topic) in [
            ("Cheap handguns and ammo", "disapproved", "weapons"),
            ("A massage gun for sore legs", "approved", ""),
            ("A crossbow for beginners", "under_review", "weapons"),
            ("Magic mushrooms by post", "disapproved", "drugs"),
            ("CBD oil for dogs", "under_review", "drugs"),
            ("Vapes in forty flavours", "disapproved", "tobacco"),
            ("Quit vaping with a friend", "approved", ""),
            ("Play online slots at our casino", "under_review", "gambling"),
            ("An alphabet for children", "approved", ""),
            ("Nudes of your neighbours", "disapproved", "adult"),
            ("This tea cures cancer", "disapproved", "health_claims"),
            ("Cancer? There is a natural cure", "under_review", "health_claims"),
            ("Cured ham from the hills", "approved", ""),
            ("Guaranteed income from home", "disapproved", "income_claims"),
            ("Earn 500 a day", "disapproved", "income_claims"),
            ("Lose 20 pounds in a week", "disapproved", "weight_loss"),
            ("Miracle weight loss tea", "disapproved", "weight_loss"),
            ("A weight you can lose sleep over", "approved", ""),
            ("You have won a phone", "disapproved", "deception"),
        ] {
            let verdict = judge(&ad("Plain words", text));
            assert_eq!(
                (verdict.review.as_str(), &*verdict.topic),
                (review, topic),
                "{text}: {}",
                verdict.reason
            );
        }
    }

    #[test]
    fn the_manner_is_looked_at() {
        for (text, topic) in [
            ("BUY CHEAP SHOES TODAY", "shouting"),
            ("Only today!!!", "shouting"),
            ("HEPA filter with USB-C and SPF 50", ""),
            ("Really? Yes!", ""),
            ("P\u{430}ypal is safe", "obfuscation"),
            ("\u{ff33}\u{ff28}\u{ff2f}\u{ff25}\u{ff33} for all", "obfuscation"),
            ("via\u{200d}gra", "obfuscation"),
            ("\u{41c}\u{43e}\u{441}\u{43a}\u{432}\u{430} and shoes", ""),
            ("40 m² of space, 1º quality", ""),
            ("Call +49 30 1234567", "contact"),
            ("Call (212) 555-0187", "contact"),
            ("Call 1-800-555-0187 now", "contact"),
            ("From 4 to 32 kg in 2026, 10,000 steps", ""),
            ("2 900 000 owners since 1999", ""),
        ] {
            assert_eq!(judge(&ad("Plain words", text)).topic, topic, "{text}");
        }
    }

    #[test]
    fn everything_an_ad_says_counts_and_the_severest_decides() {
        let fact = Words { facts: vec!["It cures cancer.".into()], ..ad("Tea", "Play bingo") };
        let verdict = judge(&fact);
        assert_eq!((verdict.review, &*verdict.topic), (Review::Disapproved, "health_claims"));
        let elsewhere = Words { display_url: "bank.example".into(), ..ad("Tea", "Leaves") };
        assert_eq!(judge(&elsewhere).topic, "destination");
        assert_eq!(judge(&ad("Tea", "Leaves")), Verdict::default());
    }
}
