//! What a single value of a document must look like.

use jiff::civil::Date;
use url::Url;

use super::ImportProblems;
use crate::keywords::MAX_WORDS;
use crate::text::words;

/// Longest headline, in characters.
const MAX_HEADLINE: usize = 40;
/// Longest text, in characters.
pub(crate) const MAX_TEXT: usize = 150;
/// Longest sentence an advertiser vouches for.
const MAX_FACT: usize = 200;
/// Longest description of a picture.
const MAX_ALT: usize = 150;
/// Longest name of an author.
const MAX_AUTHOR: usize = 128;
/// Longest keyword and longest blocked term.
pub(super) const MAX_KEYWORD: usize = 80;
/// Longest name of an advertiser or campaign, and longest `paid_by`: as long as a transparency register takes.
const MAX_NAME: usize = 100;
const MAX_DISPLAY_URL: usize = 60;
const MAX_URL: usize = 2048;

/// ISO 4217 codes that are accepted.
const CURRENCIES: &[&str] = &[
    "AED", "ARS", "AUD", "BGN", "BRL", "CAD", "CHF", "CLP", "CNY", "COP", "CZK", "DKK", "EGP", "EUR", "GBP",
    "HKD", "HUF", "IDR", "ILS", "INR", "ISK", "JPY", "KES", "KRW", "MAD", "MXN", "MYR", "NGN", "NOK", "NZD",
    "PEN", "PHP", "PKR", "PLN", "RON", "RSD", "SAR", "SEK", "SGD", "THB", "TRY", "TWD", "UAH", "USD", "VND",
    "XOF", "ZAR",
];

/// ISO 639-1.
const LANGUAGES: &str = "aa ab ae af ak am an ar as av ay az ba be bg bi bm bn bo br bs ca ce ch co cr cs cu cv cy da \
    de dv dz ee el en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik \
    io is it iu ja jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms \
    mt my na nb nd ne ng nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg si sk sl sm \
    sn so sq sr ss st su sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu";

/// ISO 3166-1 alpha-2.
const COUNTRIES: &str = "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR \
    BS BT BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET \
    FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ \
    IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML \
    MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS \
    PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL \
    TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW";

/// Whether `code` is an accepted ISO 4217 code.
pub(crate) fn is_known_currency(code: &str) -> bool {
    CURRENCIES.contains(&code)
}

/// An id: 1 to 64 of `A-Z a-z 0-9 . _ -`, which pass through links and logs unchanged.
pub(super) fn id(value: &str, path: &str, problems: &mut ImportProblems) -> bool {
    let fits = (1..=crate::token::MAX_ID_BYTES).contains(&value.len())
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if !fits {
        problems.push(path, value, "expected an id of 1 to 64 letters, digits, dots, dashes or underscores");
    }
    fits
}

/// Text a person reads: not blank, one line, within `limit` characters, without invisible direction marks that
/// could make it read as something else.
fn line(value: &str, limit: usize, path: &str, problems: &mut ImportProblems) {
    let length = value.chars().count();
    if value.trim().is_empty() {
        problems.push(path, value, "is blank: write at least one visible character");
    } else if length > limit {
        problems.push(path, value, format!("has {length} characters, the limit is {limit}: shorten it"));
    } else if has_hidden(value) {
        problems.push(
            path,
            value,
            "holds a line break, control, direction or invisible character: remove it",
        );
    }
}

/// Whether `value` holds a character that is not seen but changes what is. The two joiners are letters in some
/// scripts; the policy looks at them.
pub(crate) fn has_hidden(value: &str) -> bool {
    value.chars().any(|c| {
        c.is_control()
            || matches!(c, '\u{ad}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
                | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
    })
}

pub(super) fn name(value: &str, path: &str, problems: &mut ImportProblems) {
    line(value, MAX_NAME, path, problems);
}

pub(super) fn headline(value: &str, path: &str, problems: &mut ImportProblems) {
    line(value, MAX_HEADLINE, path, problems);
}

pub(super) fn text(value: &str, path: &str, problems: &mut ImportProblems) {
    line(value, MAX_TEXT, path, problems);
}

pub(super) fn fact(value: &str, path: &str, problems: &mut ImportProblems) {
    line(value, MAX_FACT, path, problems);
}

pub(super) fn alt(value: &str, path: &str, problems: &mut ImportProblems) {
    line(value, MAX_ALT, path, problems);
}

pub(super) fn author(value: &str, path: &str, problems: &mut ImportProblems) {
    line(value, MAX_AUTHOR, path, problems);
}

/// Words that are looked for: at least one, at most ten.
pub(super) fn keyword(value: &str, path: &str, problems: &mut ImportProblems) {
    let found = words(value, MAX_WORDS + 1).len();
    if found == 0 {
        problems.push(path, value, "is an empty keyword: write at least one word");
    } else if found > MAX_WORDS || value.chars().count() > MAX_KEYWORD {
        let message = format!("is too long: at most {MAX_WORDS} words and {MAX_KEYWORD} characters");
        problems.push(path, value, message);
    } else if has_hidden(value) {
        problems.push(
            path,
            value,
            "holds a line break, control, direction or invisible character: remove it",
        );
    }
}

/// A calendar day, `YYYY-MM-DD`.
pub(super) fn day(value: &str, path: &str, problems: &mut ImportProblems) -> Option<Date> {
    let parsed = if value.len() == 10 { value.parse().ok() } else { None };
    if parsed.is_none() {
        problems.push(path, value, "expected a day such as 2026-01-31");
    }
    parsed
}

/// A known language, in lower case.
pub(super) fn language(value: &str, path: &str, problems: &mut ImportProblems) -> Option<String> {
    let code = value.to_ascii_lowercase();
    if LANGUAGES.split_ascii_whitespace().any(|known| known == code) {
        return Some(code);
    }
    problems.push(path, value, "is no two-letter language (ISO 639-1) such as en");
    None
}

/// A known country, in upper case.
pub(super) fn country(value: &str, path: &str, problems: &mut ImportProblems) -> Option<String> {
    let code = value.to_ascii_uppercase();
    if COUNTRIES.split_ascii_whitespace().any(|known| known == code) {
        return Some(code);
    }
    problems.push(path, value, "is no two-letter country (ISO 3166-1) such as US");
    None
}

/// Whether ads can be aimed at the topic.
pub(super) fn is_known_topic(topic: u16) -> bool {
    let id = |line: &str| line.split('\t').next().and_then(|id| id.parse::<u16>().ok());
    include_str!("../../data/iab-content-3.1.tsv").lines().filter_map(id).any(|known| known == topic)
}

/// A landing page: https, with a host name and without credentials. Returned in its canonical form, which holds
/// nothing but printable ASCII.
pub(super) fn landing_url(value: &str, path: &str, problems: &mut ImportProblems) -> Option<Url> {
    let mut refuse = |message: String| {
        problems.push(path, value, message);
        None
    };
    if value.len() > MAX_URL {
        return refuse(format!("has {} bytes, the limit is {MAX_URL}", value.len()));
    }
    // A parser of addresses drops them without a word, and what it then reads is not what was looked at.
    if has_hidden(value) {
        return refuse("holds a line break, control, direction or invisible character: remove it".into());
    }
    let url = match Url::parse(value) {
        Ok(url) => url,
        Err(error) => return refuse(format!("is not a web address such as https://shop.example/: {error}")),
    };
    if url.scheme() != "https" {
        return refuse(format!("uses {}, expected https", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return refuse("holds a user name or password: remove it".into());
    }
    match url.domain() {
        Some(domain) if domain.contains('.') => Some(url),
        _ => refuse("expected a host name such as shop.example, not an address or a bare word".into()),
    }
}

/// What is shown instead of the landing address: its host, possibly without `www.`, and a short path.
pub(super) fn display_url(value: &str, landing: &Url, path: &str, problems: &mut ImportProblems) {
    let host = landing.host_str().unwrap_or_default();
    let shown_host = value.split('/').next().unwrap_or_default().to_lowercase();
    let bare = |host: &str| host.strip_prefix("www.").unwrap_or(host).to_owned();
    line(value, MAX_DISPLAY_URL, path, problems);
    if bare(&shown_host) != bare(host) {
        problems.push(path, value, format!("must start with the host of the landing page, {host}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem_of(check: impl FnOnce(&mut ImportProblems)) -> Option<String> {
        let mut problems = ImportProblems::default();
        check(&mut problems);
        problems.problems.pop().map(|problem| problem.message)
    }

    #[test]
    fn landing_pages() {
        let check = |value: &str, expected: Option<&str>| {
            let found = problem_of(|p| {
                landing_url(value, "$", p);
            });
            match (found, expected) {
                (None, None) => {}
                (Some(found), Some(part)) => assert!(found.contains(part), "{value}: {found}"),
                (found, expected) => panic!("{value}: {found:?}, expected {expected:?}"),
            }
        };
        check("https://shop.example/a?b=c#d", None);
        check("http://shop.example/", Some("expected https"));
        check("javascript:alert(1)", Some("expected https"));
        check("https://user:secret@shop.example/", Some("password"));
        check("https://user@shop.example/", Some("password"));
        check("https://127.0.0.1/", Some("host name"));
        check("https://localhost/", Some("host name"));
        check("//shop.example/", Some("not a web address"));
        check(&format!("https://shop.example/{}", "x".repeat(3000)), Some("limit"));
        for hidden in ["a\r\nSet-Cookie: x", "a\t", "\u{202e}", "\0", "\u{ad}"] {
            check(&format!("https://shop.example/{hidden}"), Some("remove it"));
        }
        let mut problems = ImportProblems::default();
        let spaced = landing_url(" https://shop.example/a b/ü ", "$", &mut problems).expect("is read");
        assert_eq!(spaced.as_str(), "https://shop.example/a%20b/%C3%BC");
    }

    #[test]
    fn display_urls_name_the_real_host() {
        let landing = Url::parse("https://www.shop.example/a").expect("valid");
        for good in ["shop.example", "www.shop.example/sale", "SHOP.example/x"] {
            assert_eq!(problem_of(|p| display_url(good, &landing, "$", p)), None, "{good}");
        }
        for bad in ["bank.example", "shop.example.evil.example", "", "shop.example@bank.example"] {
            assert!(problem_of(|p| display_url(bad, &landing, "$", p)).is_some(), "{bad}");
        }
    }

    #[test]
    fn lines_ids_days_and_codes() {
        assert!(problem_of(|p| headline(&"x".repeat(41), "$", p)).is_some());
        assert_eq!(problem_of(|p| headline(&"ß".repeat(40), "$", p)), None, "characters, not bytes");
        for bad in ["", " ", "two\nlines", "right\u{202e}tfel", "zero\u{200b}width", "tag\u{e0041}"] {
            assert!(problem_of(|p| text(bad, "$", p)).is_some(), "{bad:?}");
        }
        for bad in ["", "a b", "ü", &"x".repeat(65), "a/b"] {
            assert!(
                problem_of(|p| {
                    id(bad, "$", p);
                })
                .is_some(),
                "{bad:?}"
            );
        }
        for bad in ["2026-02-30", "26-01-01", "2026-01-01T00:00", "tomorrow"] {
            assert!(
                problem_of(|p| {
                    day(bad, "$", p);
                })
                .is_some(),
                "{bad}"
            );
        }
        assert_eq!(country("us", "$", &mut ImportProblems::default()), Some("US".into()));
        assert_eq!(language("EN", "$", &mut ImportProblems::default()), Some("en".into()));
        for bad in ["eng", "xx", "e", ""] {
            let found = problem_of(|p| {
                language(bad, "$", p);
            });
            assert!(found.is_some(), "{bad}");
        }
        for bad in ["USA", "XX", "UK", "EU", ""] {
            let found = problem_of(|p| {
                country(bad, "$", p);
            });
            assert!(found.is_some(), "{bad}");
        }
        assert!(is_known_topic(1) && !is_known_topic(0) && !is_known_topic(65535));
        assert!(is_known_currency("EUR") && !is_known_currency("eur") && !is_known_currency("XXX"));
    }
}
