//! Which language family a text is analysed in.

use std::sync::LazyLock;

use whatlang::{Detector, Lang};

/// Fewest letters of a text whose language is guessed; below, guesses are wrong too often.
const MIN_LETTERS: usize = 24;

/// Guesses between the languages that people post in; with all seventy it takes nearly twice as long.
static DETECTOR: LazyLock<Detector> = LazyLock::new(|| {
    use Lang::{
        Ara, Ces, Dan, Deu, Eng, Fin, Fra, Hin, Hun, Ind, Ita, Nld, Nob, Pes, Pol, Por, Ron, Rus, Spa, Swe,
        Tgl, Tur, Ukr, Vie,
    };
    Detector::with_allowlist(vec![
        Ara, Ces, Dan, Deu, Eng, Fin, Fra, Hin, Hun, Ind, Ita, Nld, Nob, Pes, Pol, Por, Ron, Rus, Spa, Swe,
        Tgl, Tur, Ukr, Vie,
    ])
});

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

    /// The family of a text whose language is `lang` (ISO 639-1, also with a region), guessed when absent.
    pub(crate) fn of(lang: Option<&str>, text: &str) -> Self {
        let lang = lang.and_then(|lang| lang.split(['-', '_']).next()).unwrap_or_default();
        match lang.to_ascii_lowercase().as_str() {
            "en" | "eng" => Self::English,
            "fr" | "fra" | "fre" => Self::French,
            "" | "und" | "mul" | "zxx" => Self::guess(text),
            _ => Self::Other,
        }
    }

    fn guess(text: &str) -> Self {
        // Links and sigils are in no language; a thousand bytes say as much as all of a long text.
        let words: Vec<&str> = crate::query::cut(text, 1000)
            .split_whitespace()
            .filter(|word| !word.contains("://") && !word.starts_with(['#', '@', '$']))
            .collect();
        let words = words.join(" ");
        if words.chars().filter(|c| c.is_alphabetic()).count() < MIN_LETTERS {
            return Self::English;
        }
        match DETECTOR.detect(&words) {
            Some(guess) if guess.is_reliable() => match guess.lang() {
                Lang::Eng => Self::English,
                Lang::Fra => Self::French,
                _ => Self::Other,
            },
            _ => Self::English,
        }
    }
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
            assert_eq!(Family::of(lang, text), expected, "{lang:?} {text}");
        }
    }
}
