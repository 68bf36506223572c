//! Where no ad belongs: grief, harm, and illness that kills.
//!
//! A list of words, on purpose: it is short enough to be read and argued about, and it errs towards no ad. It
//! looks at whole words of the request, plurals included, and knows no context: "cancer research fund raiser" is
//! left without ads too. A caller that knows more about a page says so with `page_sensitive`.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde::Serialize;

use crate::text::{singular, words};

/// Why a request got no ads at all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum NoFill {
    /// The caller marked the page.
    PageSensitive,
    /// The request has no text, so that nothing is known about it.
    EmptyText,
    /// The request's own words are on the list.
    SensitiveText {
        /// The term found.
        term: &'static str,
    },
    /// No slot was asked for.
    NoSlot,
}

/// By subject: lower case, singular, separated by commas; each may be several words in a row.
const TERMS: &[&str] = &[
    // Self-harm and despair.
    "suicide, suicidal, self harm, self harming, self injury, kill myself, killing myself, want to die, end my life, \
     cutting myself, hopeless, hanged",
    // Death and grief.
    "death, dead, dying, died, dies, die, deadly, fatal, fatality, killed, killing, kill, killer, death toll, funeral, \
     grief, grieving, bereaved, mourning, miscarriage, stillbirth, stillborn, sids, hospice, corpse, autopsy, casualty",
    // Violence and crime.
    "murder, murdered, murderer, homicide, shooting, shot dead, gunman, massacre, stabbing, stabbed, terrorism, \
     terrorist, bombing, hostage, genocide, war crime, torture, kidnapped, kidnapping, domestic violence, trafficking, \
     lynching",
    // Abuse and assault.
    "abuse, abused, abuser, abusive, rape, raped, rapist, molested, molestation, pedophile, paedophile, incest, \
     sexual assault, sexually assaulted, child pornography",
    // Addiction.
    "overdose, overdosed, overdosing, addict, addicted, addiction, heroin, fentanyl, opioid, opiate, meth, \
     crack cocaine, alcoholism, alcoholic, rehab",
    // Epidemics.
    "ebola, outbreak, epidemic, pandemic, plague, quarantine, cholera, anthrax, mers, sars, zika, polio, measles",
    // Illness that kills or marks for life.
    "cancer, tumor, tumour, leukemia, leukaemia, lymphoma, melanoma, carcinoma, chemotherapy, metastatic, \
     terminal illness, terminally ill, hiv, hepatitis, tuberculosis, stroke, heart attack, cardiac arrest, dementia, \
     alzheimer, alzheimer's, parkinson's, cystic fibrosis, sepsis, coma, amputation, amputee, life support, \
     birth defect, microcephaly",
    // Minds in distress.
    "anorexia, anorexic, bulimia, bulimic, eating disorder, depression, depressed, bipolar, schizophrenia, psychosis, \
     ptsd, panic attack, mental breakdown",
    // Disasters.
    "earthquake, tsunami, hurricane, tornado, wildfire, plane crash, car crash, train crash, drowned, drowning, \
     explosion, famine, refugee, evacuation",
    // Subjects on which a private matter is at stake.
    "abortion, std, sexually transmitted",
];

struct Term {
    shown: &'static str,
    words: Vec<String>,
}

static BY_FIRST_WORD: LazyLock<HashMap<String, Vec<Term>>> = LazyLock::new(|| {
    let mut by_first: HashMap<String, Vec<Term>> = HashMap::new();
    for shown in terms() {
        let words = words(shown, usize::MAX);
        by_first.entry(words[0].clone()).or_default().push(Term { shown, words });
    }
    by_first
});

fn terms() -> impl Iterator<Item = &'static str> {
    TERMS.iter().flat_map(|list| list.split(',')).map(str::trim)
}

/// The first term of the list that occurs in `text`, if any. A plural in `text` counts as its singular.
pub fn sensitive_term(text: &str) -> Option<&'static str> {
    let found: Vec<(String, String)> = words(text, usize::MAX)
        .into_iter()
        .map(|word| {
            let one = singular(&word);
            (word, one)
        })
        .collect();
    let same = |(word, one): &(String, String), part: &String| word == part || one == part;
    (0..found.len()).find_map(|at| {
        let (word, one) = &found[at];
        let listed = [word, one].into_iter().filter_map(|first| BY_FIRST_WORD.get(first)).flatten();
        let mut holds = listed.filter(|term| {
            let here = found.get(at..at + term.words.len());
            here.is_some_and(|here| here.iter().zip(&term.words).all(|(word, part)| same(word, part)))
        });
        holds.next().map(|term| term.shown)
    })
}

/// Why nothing may be shown for `text`, if so. What is unknown, because there is no text, counts as unsafe.
pub(crate) fn unsafe_for_ads(text: &str, page_sensitive: bool) -> Option<NoFill> {
    if page_sensitive {
        Some(NoFill::PageSensitive)
    } else if text.trim().is_empty() {
        Some(NoFill::EmptyText)
    } else {
        sensitive_term(text).map(|term| NoFill::SensitiveText { term })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grief_is_left_alone_and_shopping_is_not() {
        for (text, expected) in [
            ("measles outbreak deaths", true),
            ("Death toll rises", true),
            ("he DIED", true),
            ("SELF-HARM among teens", true),
            ("drug overdoses", true),
            ("cancers of the skin", true),
            ("I want to die", true),
            ("ｓｕｉｃｉｄｅ", true),
            ("Alzheimer\u{2019}s drug", true),
            ("running shoes", false),
            ("how to diet", false),
            ("dice games", false),
            ("skilled trainers", false),
            ("is coffee good or bad for you", false),
            ("quit smoking with an app", false),
            ("back pain at work", false),
            ("sleep aids and first aid", false),
            ("Sid and a mer", false),
            ("SIDS", true),
            ("heart attacks", true),
            ("he had a heart", false),
            ("", false),
        ] {
            assert_eq!(sensitive_term(text).is_some(), expected, "{text:?} gave {:?}", sensitive_term(text));
        }
    }

    #[test]
    fn the_unknown_is_unsafe() {
        assert_eq!(unsafe_for_ads("", false), Some(NoFill::EmptyText));
        assert_eq!(unsafe_for_ads(" \n", false), Some(NoFill::EmptyText));
        assert_eq!(unsafe_for_ads("running shoes", true), Some(NoFill::PageSensitive));
        assert_eq!(unsafe_for_ads("ebola", false), Some(NoFill::SensitiveText { term: "ebola" }));
        assert_eq!(unsafe_for_ads("running shoes", false), None);
    }

    #[test]
    fn every_term_finds_itself() {
        for term in terms() {
            assert!(sensitive_term(&format!("about {term} today")).is_some(), "{term}");
        }
    }
}
