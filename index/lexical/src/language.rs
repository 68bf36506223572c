//! The language of a text, as stated, else as guessed, and the family it is analysed in.
//!
//! The one place where languages are guessed: what a filter calls French is what the index stems as French.

use std::sync::LazyLock;

use whatlang::{Detector, Lang};

use crate::Analyzer;

/// Fewest letters of a text whose language is guessed; below, guesses are wrong too often.
const MIN_LETTERS: usize = 24;
/// Bytes of a text that are looked at: they say as much as all of a long one.
const LOOK_BYTES: usize = 1000;

/// Guesses between all languages but some in Latin letters that few people post in: they would take short posts in
/// English and French for their own.
static DETECTOR: LazyLock<Detector> = LazyLock::new(|| {
    Detector::with_denylist(vec![
        Lang::Afr,
        Lang::Aka,
        Lang::Cym,
        Lang::Epo,
        Lang::Jav,
        Lang::Lat,
        Lang::Sna,
        Lang::Tuk,
        Lang::Uzb,
        Lang::Zul,
    ])
});

/// The ISO 639-1 code of a text: `stated` without its region (`fr-CA` is `fr`), else a guess that is reliable or
/// English; `None` when it cannot be told.
pub fn language_of(stated: Option<&str>, text: &str) -> Option<String> {
    let stated = stated.map(primary_language).unwrap_or_default();
    match stated.as_str() {
        "" | "und" | "mul" | "zxx" => guess(text).map(str::to_owned),
        _ => Some(stated),
    }
}

/// A language code in lower case, without region or script; three letters of English and French become two.
pub fn primary_language(code: &str) -> String {
    let code = code.trim().split(['-', '_']).next().unwrap_or_default().to_lowercase();
    match code.as_str() {
        "eng" => "en".to_owned(),
        "fra" | "fre" => "fr".to_owned(),
        _ => code,
    }
}

fn guess(text: &str) -> Option<&'static str> {
    // Links and sigils are in no language.
    let words: Vec<&str> = crate::query::cut(text, LOOK_BYTES)
        .split_whitespace()
        .filter(|word| !word.contains("://") && !word.starts_with(['#', '@', '$']))
        .collect();
    let words = words.join(" ");
    if words.chars().filter(|c| c.is_alphabetic()).count() < MIN_LETTERS {
        return None;
    }
    // A text of which it is unsure is analysed as English; so an unsure guess of English is no loss.
    let usable = |guess: &whatlang::Info| guess.is_reliable() || guess.lang() == Lang::Eng;
    let guess = DETECTOR.detect(&words).filter(usable)?;
    two_letters(guess.lang().code())
}

/// How words lose their endings. A post is in exactly one family, and so in exactly one body field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// English stems and stop words; also what is not told apart.
    English,
    /// French stems, elisions and stop words.
    French,
    /// No stems.
    Other,
}

impl Family {
    pub(crate) const ALL: [Self; 3] = [Self::English, Self::French, Self::Other];

    /// The family in which a text is analysed, by its language, see [`language_of`].
    pub(crate) fn of(analyzer: Analyzer, lang: Option<&str>, text: &str) -> Self {
        if analyzer == Analyzer::Plain {
            return Self::Other;
        }
        match language_of(lang, text).as_deref() {
            Some("en") | None => Self::English,
            Some("fr") => Self::French,
            Some(_) => Self::Other,
        }
    }
}

/// ISO 639-3 to ISO 639-1, for the languages that are guessed.
fn two_letters(code: &str) -> Option<&'static str> {
    const CODES: [(&str, &str); 70] = [
        ("afr", "af"),
        ("aka", "ak"),
        ("amh", "am"),
        ("ara", "ar"),
        ("aze", "az"),
        ("bel", "be"),
        ("ben", "bn"),
        ("bul", "bg"),
        ("cat", "ca"),
        ("ces", "cs"),
        ("cmn", "zh"),
        ("cym", "cy"),
        ("dan", "da"),
        ("deu", "de"),
        ("ell", "el"),
        ("eng", "en"),
        ("epo", "eo"),
        ("est", "et"),
        ("fin", "fi"),
        ("fra", "fr"),
        ("guj", "gu"),
        ("heb", "he"),
        ("hin", "hi"),
        ("hrv", "hr"),
        ("hun", "hu"),
        ("hye", "hy"),
        ("ind", "id"),
        ("ita", "it"),
        ("jav", "jv"),
        ("jpn", "ja"),
        ("kan", "kn"),
        ("kat", "ka"),
        ("khm", "km"),
        ("kor", "ko"),
        ("lat", "la"),
        ("lav", "lv"),
        ("lit", "lt"),
        ("mal", "ml"),
        ("mar", "mr"),
        ("mkd", "mk"),
        ("mya", "my"),
        ("nep", "ne"),
        ("nld", "nl"),
        ("nob", "nb"),
        ("ori", "or"),
        ("pan", "pa"),
        ("pes", "fa"),
        ("pol", "pl"),
        ("por", "pt"),
        ("ron", "ro"),
        ("rus", "ru"),
        ("sin", "si"),
        ("slk", "sk"),
        ("slv", "sl"),
        ("sna", "sn"),
        ("spa", "es"),
        ("srp", "sr"),
        ("swe", "sv"),
        ("tam", "ta"),
        ("tel", "te"),
        ("tgl", "tl"),
        ("tha", "th"),
        ("tuk", "tk"),
        ("tur", "tr"),
        ("ukr", "uk"),
        ("urd", "ur"),
        ("uzb", "uz"),
        ("vie", "vi"),
        ("yid", "yi"),
        ("zul", "zu"),
    ];
    let at = CODES.binary_search_by_key(&code, |(three, _)| three).ok()?;
    Some(CODES[at].1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_family_is_given_or_guessed() {
        let french = "Les enfants qui dorment mal apprennent moins bien à l'école que les autres";
        for (lang, text, expected) in [
            (Some("en"), french, Family::English),
            (Some("fr-CA"), "hello", Family::French),
            (Some("de"), "hello", Family::Other),
            (None, french, Family::French),
            (Some("und"), french, Family::French),
            (None, "Children who sleep badly learn less at school than the others do", Family::English),
            (None, "bonjour à tous", Family::English),
            (None, "", Family::English),
            (None, "Дети, которые плохо спят, хуже учатся в школе, чем другие дети", Family::Other),
        ] {
            assert_eq!(Family::of(Analyzer::Language, lang, text), expected, "{lang:?} {text}");
        }
    }

    #[test]
    fn a_language_is_stated_or_guessed_or_unknown() {
        let french = "Les enfants qui dorment mal apprennent moins bien à l'école que les autres";
        for (lang, text, expected) in [
            (Some("fr-ca"), "hello", Some("fr")),
            (Some("FRA"), "hello", Some("fr")),
            (Some("de"), french, Some("de")),
            (None, french, Some("fr")),
            (Some("und"), french, Some("fr")),
            (None, "Children who sleep badly learn less at school than the others do", Some("en")),
            (None, "睡眠は大事ですから、毎日よく寝て、朝は早く起きるようにしましょう", Some("ja")),
            (None, "bonjour", None),
            (None, "https://a.example/abcdefghijklmnopqrstuvwxyz", None),
        ] {
            assert_eq!(language_of(lang, text).as_deref(), expected, "{lang:?} {text}");
        }
    }

    #[test]
    fn every_guessable_language_but_none_other_has_a_code() {
        for lang in Lang::all() {
            assert!(two_letters(lang.code()).is_some(), "{lang:?}");
        }
        assert_eq!(two_letters("xxx"), None);
    }
}
