//! The language of a post: as stated, else as guessed, as an ISO 639-1 code.

use bowerbird_posts::Post;

/// Fewest letters of a text whose language is guessed; below, guesses are wrong too often. The lexical index has the
/// same limit, so a text it stems as French has `fr` here.
const MIN_LETTERS: usize = 24;
/// Bytes of a text that are looked at: they say as much as all of a long one.
const LOOK_BYTES: usize = 1000;

/// The stated language without its region (`fr-CA` is `fr`), else a guess that is reliable or English.
pub(crate) fn language_of(post: &Post) -> Option<String> {
    let stated = post.lang.as_deref().map(primary).unwrap_or_default();
    match stated.as_str() {
        "" | "und" | "mul" | "zxx" => guess(&post.text).map(str::to_owned),
        _ => Some(stated),
    }
}

/// A language code in lower case, without region or script.
pub(crate) fn primary(code: &str) -> String {
    code.trim().split(['-', '_']).next().unwrap_or_default().to_lowercase()
}

fn guess(text: &str) -> Option<&'static str> {
    let words: Vec<&str> = text[..text.floor_char_boundary(LOOK_BYTES)]
        .split_whitespace()
        .filter(|word| !word.contains("://") && !word.starts_with(['#', '@', '$']))
        .collect();
    let words = words.join(" ");
    if words.chars().filter(|c| c.is_alphabetic()).count() < MIN_LETTERS {
        return None;
    }
    // The lexical index takes a text it is unsure of for English; here the best guess must agree.
    let usable = |guess: &whatlang::Info| guess.is_reliable() || guess.lang() == whatlang::Lang::Eng;
    let guess = whatlang::detect(&words).filter(usable)?;
    two_letters(guess.lang().code())
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
    use bowerbird_posts::PostId;

    #[test]
    fn language_is_stated_or_guessed_or_unknown() {
        let french = "Les enfants qui dorment mal apprennent moins bien à l'école que les autres";
        for (lang, text, expected) in [
            (Some("fr-ca"), "hello", Some("fr")),
            (Some("de"), french, Some("de")),
            (None, french, Some("fr")),
            (Some("und"), french, Some("fr")),
            (None, "Children who sleep badly learn less at school than the others do", Some("en")),
            (None, "bonjour", None),
            (None, "https://a.example/abcdefghijklmnopqrstuvwxyz", None),
        ] {
            let id = PostId::new("1").expect("valid");
            let mut post = Post::new(id, text, "", jiff::Timestamp::UNIX_EPOCH);
            post.lang = lang.map(str::to_owned);
            assert_eq!(language_of(&post).as_deref(), expected, "{lang:?} {text}");
        }
    }

    #[test]
    fn every_guessable_language_but_none_other_has_a_code() {
        for lang in whatlang::Lang::all() {
            assert!(two_letters(lang.code()).is_some(), "{lang:?}");
        }
        assert_eq!(two_letters("xxx"), None);
    }
}
