//! Where no ad belongs: grief, harm, and illness that kills.
//!
//! A list of words, on purpose: it is short enough to be read and argued about, and it errs towards no ad. It
//! looks at whole words of the request, plurals included, and knows hardly any context: "cancer research fund raiser"
//! is left without ads too, "killer abs" is not. A caller that knows more about a page says so with `page_sensitive`.

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
    /// The request's words are none of the list, but the classifier finds what they say unsafe.
    UnsafeText {
        /// Such as `classifier:offensive 0.97`.
        cause: String,
    },
    /// A post that would stand beside an ad is not fit for that, or could not be judged.
    UnsafeNeighbour {
        /// Such as `list:overdose` or `classifier:grave 0.93`.
        cause: String,
    },
    /// No slot was asked for.
    NoSlot,
    /// The draw for an answer came to showing no ad.
    NoAdDrawn,
}

impl NoFill {
    /// As in JSON, such as `page_sensitive` or `no_slot`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::PageSensitive => "page_sensitive",
            Self::EmptyText => "empty_text",
            Self::SensitiveText { .. } => "sensitive_text",
            Self::UnsafeText { .. } => "unsafe_text",
            Self::UnsafeNeighbour { .. } => "unsafe_neighbour",
            Self::NoSlot => "no_slot",
            Self::NoAdDrawn => "no_ad_drawn",
        }
    }
}

/// By subject: lower case, singular, separated by commas; each may be several words in a row.
const TERMS: &[&str] = &[
    // Self-harm and despair.
    "suicide, suicidal, self harm, self harming, self injury, kill myself, killing myself, want to die, end my life, \
     cutting myself, hopeless, hanged, their own life, their own lives, his own life, her own life, my own life, \
     end it all, ending it all, goodbye note, crisis line, crisis hotline, jumped from a bridge, \
     jumped from the bridge, jumped off a bridge, jumped off the bridge, hurt myself, hurting myself, \
     hurt themselves, hurting themselves, harm themselves, harming themselves, harm myself, harming myself",
    // Death and grief.
    "death, dead, dying, died, dies, die, deadly, fatal, fatally, fatality, killed, killing, kill, killer, death toll, \
     funeral, grief, grieving, bereaved, mourn, mourned, mourning, mourner, miscarriage, miscarried, stillbirth, \
     stillborn, sids, hospice, palliative, corpse, autopsy, casualty, mortality, lethal, lost his life, lost her life, \
     lost their lives, lose their lives, losing a child, lost a child, loss of a child, losing a loved one, widow, \
     widower, mass grave, tragedy, tragic, euthanasia",
    // Violence and crime.
    "murder, murdered, murderer, homicide, shooting, shot dead, gunman, massacre, stabbing, stabbed, terrorism, \
     terrorist, bombing, bombed, airstrike, air strike, hostage, genocide, war crime, torture, kidnapped, kidnapping, \
     domestic violence, trafficking, lynching, slain, slaying",
    // Abuse and assault.
    "abuse, abused, abuser, abusive, rape, raped, rapist, molest, molested, molester, molestation, pedophile, \
     paedophile, incest, assault, assaulted, sexually assaulted, sexual harassment, sexually harassed, sex offender, \
     child pornography, mistreat, mistreated, mistreating, mistreatment, child neglect, neglected child, \
     neglected children, child beaten, was beaten, were beaten, beaten by, beaten up, genital mutilation, mutilated, \
     groomed his, groomed her, battered wife, battered women",
    // Addiction.
    "overdose, overdosed, overdosing, addict, addicted, addiction, heroin, fentanyl, opioid, opiate, meth, \
     methamphetamine, cocaine, oxycontin, oxycodone, crack cocaine, alcoholism, alcoholic, rehab, relapse, relapsed, \
     naloxone, narcan, binge drinking, alcohol poisoning, drug use, drug user, substance use",
    // Epidemics.
    "ebola, outbreak, epidemic, pandemic, plague, quarantine, cholera, anthrax, mers, sars, zika, polio, measles, \
     mumps, whooping cough, pertussis, smallpox, meningitis, legionnaire, e coli, salmonella, listeria, norovirus, \
     botulism, superbug, mrsa, enterovirus, swine flu, bird flu, avian flu, h1n1, h5n1, h7n9, chikungunya, dengue, \
     malaria, west nile, coronavirus, covid, flesh eating, sickened",
    // Illness that kills or marks for life.
    "cancer, tumor, tumour, leukemia, leukaemia, lymphoma, melanoma, carcinoma, chemotherapy, mastectomy, metastatic, \
     terminal illness, terminally ill, hiv, hepatitis, tuberculosis, tb, stroke, heart attack, heart failure, \
     cardiac arrest, kidney failure, liver failure, organ failure, organ donor, kidney transplant, liver transplant, \
     heart transplant, lung transplant, dementia, alzheimer, alzheimer's, parkinson's, huntington's, lou gehrig, \
     multiple sclerosis, muscular dystrophy, cystic fibrosis, sickle cell, sepsis, toxic shock, coma, brain damage, \
     paralyzed, paralysed, paralysis, amputation, amputee, life support, intensive care, critical condition, \
     birth defect, microcephaly",
    // Minds in distress.
    "anorexia, anorexic, bulimia, bulimic, eating disorder, depression, depressed, bipolar, schizophrenia, \
     schizophrenic, psychosis, psychotic, ptsd, panic attack, mental breakdown, hear voices, hearing voices",
    // Disasters.
    "earthquake, tsunami, hurricane, tornado, wildfire, mudslide, plane crash, car crash, bus crash, train crash, \
     drown, drowned, drowning, explosion, famine, refugee, evacuation",
    // Subjects on which a private matter is at stake.
    "abortion, std, sexually transmitted",
];

/// Phrases in which a word of the list means no harm. Only the words of the phrase itself are let off.
const HARMLESS: &[&str] = &[
    "killer abs, killer workout, killer body, killer legs, killer arms, killer core, killer recipe, killer smoothie, \
     dead tired, drop dead tired, drop dead gorgeous, dead skin, dead sea, dead lift, to die for, dying to try, \
     dying to know, breast stroke, back stroke, stroke of luck, swim stroke, photo shooting",
];

struct Term {
    shown: &'static str,
    words: Vec<String>,
}

type Lexicon = HashMap<String, Vec<Term>>;

static SENSITIVE: LazyLock<Lexicon> = LazyLock::new(|| by_first_word(TERMS));
static EXCEPTED: LazyLock<Lexicon> = LazyLock::new(|| by_first_word(HARMLESS));

fn by_first_word(lists: &'static [&'static str]) -> Lexicon {
    let mut by_first = Lexicon::new();
    for shown in terms(lists) {
        let words = words(shown, usize::MAX);
        by_first.entry(words[0].clone()).or_default().push(Term { shown, words });
    }
    by_first
}

fn terms(lists: &'static [&'static str]) -> impl Iterator<Item = &'static str> {
    lists.iter().flat_map(|list| list.split(',')).map(str::trim)
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
    let mut harmless_until = 0;
    (0..found.len()).find_map(|at| {
        if let Some(phrase) = starting(&EXCEPTED, &found[at..]) {
            harmless_until = harmless_until.max(at + phrase.words.len());
        }
        let term = starting(&SENSITIVE, &found[at..])?;
        (at + term.words.len() > harmless_until).then_some(term.shown)
    })
}

/// The longest term of `lexicon` that `found` begins with; pairs of a word and its singular.
fn starting<'a>(lexicon: &'a Lexicon, found: &[(String, String)]) -> Option<&'a Term> {
    let (word, one) = found.first()?;
    let same = |(word, one): &(String, String), part: &String| word == part || one == part;
    let listed = [word, one].into_iter().filter_map(|first| lexicon.get(first)).flatten();
    let holds = listed.filter(|term| {
        let here = found.get(..term.words.len());
        here.is_some_and(|here| here.iter().zip(&term.words).all(|(word, part)| same(word, part)))
    });
    holds.max_by_key(|term| term.words.len())
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
            ("five moves for killer abs", false),
            ("killer abs of a killer", true),
            ("cookies to die for", false),
            ("cookies I want to die for", true),
            ("beaten eggs", false),
            ("she was beaten", true),
            ("an E. coli infection", true),
            ("taking their own lives", true),
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
        for term in terms(TERMS) {
            assert!(sensitive_term(&format!("about {term} today")).is_some(), "{term}");
        }
    }
}
