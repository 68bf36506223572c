//! What a single value of a document must look like.

use jiff::civil::Date;
use url::Url;

use super::ImportProblems;

/// Longest headline, in characters.
const MAX_HEADLINE: usize = 40;
/// Longest text, in characters.
const MAX_TEXT: usize = 150;
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
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if value.trim().is_empty() {
        problems.push(path, value, "is blank: write at least one visible character");
    } else if length > limit {
        problems.push(path, value, format!("has {length} characters, the limit is {limit}: shorten it"));
    } else if value.chars().any(hidden) {
        problems.push(path, value, "holds a line break, control or direction character: remove it");
    }
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

/// A calendar day, `YYYY-MM-DD`.
pub(super) fn day(value: &str, path: &str, problems: &mut ImportProblems) -> Option<Date> {
    let parsed = if value.len() == 10 { value.parse().ok() } else { None };
    if parsed.is_none() {
        problems.push(path, value, "expected a day such as 2026-01-31");
    }
    parsed
}

/// `code` brought to `length` ASCII letters of one case.
pub(super) fn code(
    value: &str,
    upper: bool,
    what: &str,
    path: &str,
    problems: &mut ImportProblems,
) -> Option<String> {
    if value.len() == 2 && value.bytes().all(|b| b.is_ascii_alphabetic()) {
        Some(if upper { value.to_ascii_uppercase() } else { value.to_ascii_lowercase() })
    } else {
        problems.push(path, value, format!("expected a two-letter {what}"));
        None
    }
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
    let url = match Url::parse(value) {
        Ok(url) => url,
        Err(error) => return refuse(format!("is not a web address: {error}")),
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
        let mut problems = ImportProblems::default();
        let split =
            landing_url("https://shop.example/a\r\nSet-Cookie: x", "$", &mut problems).expect("cleaned");
        assert!(split.as_str().bytes().all(|b| b.is_ascii_graphic()), "{split}");
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
        for bad in ["", " ", "two\nlines", "right\u{202e}tfel"] {
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
        assert_eq!(code("us", true, "country", "$", &mut ImportProblems::default()), Some("US".into()));
        assert!(
            problem_of(|p| {
                code("eng", false, "language", "$", p);
            })
            .is_some()
        );
        assert!(is_known_currency("EUR") && !is_known_currency("eur") && !is_known_currency("XXX"));
    }
}
