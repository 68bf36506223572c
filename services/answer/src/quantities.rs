//! Numbers with their units, compared exactly: `1.5M` is `1,500,000`, `20%` is `twenty percent`, and neither is `20
//! people`. What cannot be read as a number is only equal to the same characters.

use crate::text::{Kind, Token};

/// A decimal number without rounding: `digits × 10^exponent`, digits without leading or trailing zeros.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decimal {
    digits: String,
    exponent: i32,
}

impl Decimal {
    /// Reads digits with English separators: a comma before groups of three, a dot or any other comma as the
    /// decimal point. `None` for what is no such number (two points, more than 40 digits).
    fn parse(text: &str) -> Option<Self> {
        let mut groups = text.split(',');
        let first = groups.next()?;
        let rest: Vec<&str> = groups.collect();
        let whole_length = |g: &str| g.split('.').next().map_or(0, str::len);
        let grouped = !rest.is_empty() && !first.contains('.') && rest.iter().all(|g| whole_length(g) == 3);
        let text = if grouped { text.replace(',', "") } else { text.replace(',', ".") };
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
        if fraction.contains('.') || whole.len() + fraction.len() > 40 {
            return None;
        }
        Some(Self::new(format!("{whole}{fraction}"), -i32::try_from(fraction.len()).ok()?))
    }

    fn new(digits: String, exponent: i32) -> Self {
        let significant = digits.trim_start_matches('0');
        if significant.is_empty() {
            return Self { digits: "0".into(), exponent: 0 };
        }
        let trimmed = significant.trim_end_matches('0');
        let zeros = i32::try_from(significant.len() - trimmed.len()).unwrap_or(0);
        Self { digits: trimmed.to_owned(), exponent: exponent + zeros }
    }

    /// A whole number.
    pub(crate) fn of(number: u32) -> Self {
        Self::new(number.to_string(), 0)
    }

    fn times_ten_to(mut self, power: i32) -> Self {
        if self.digits != "0" {
            self.exponent += power;
        }
        self
    }
}

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Nothing that is recognised.
    None,
    /// Hundredths.
    Percent,
    /// Money.
    Currency(char),
    /// A unit of measure, by its common name.
    Measure(&'static str),
}

/// A number a sentence states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Quantity {
    /// A number that was read.
    Number {
        /// Its size.
        value: Decimal,
        /// Below zero.
        negative: bool,
        /// What it counts.
        unit: Unit,
        /// The word `one` alone, which is a pronoun as often as a number: it satisfies but is never required.
        pronoun: bool,
    },
    /// Digits that cannot be read as a number (`1O0`, `12.05.2014`, `H1N1`): equal only to the same characters.
    Opaque(String),
}

impl Quantity {
    /// Whether evidence that states `self` allows a sentence to state `claimed`.
    ///
    /// Value and sign must be equal. A percentage or an amount of money must be the same in both; a unit of measure
    /// that is claimed must be the one in the evidence, but may be left out.
    pub fn allows(&self, claimed: &Self) -> bool {
        match (self, claimed) {
            (Self::Opaque(have), Self::Opaque(want)) => have == want,
            (
                Self::Number { value: have, negative: have_negative, unit: have_unit, .. },
                Self::Number { value: want, negative: want_negative, unit: want_unit, .. },
            ) => {
                have == want
                    && have_negative == want_negative
                    && (have_unit == want_unit
                        || (*want_unit == Unit::None && matches!(have_unit, Unit::Measure(_))))
            }
            _ => false,
        }
    }

    /// Whether a sentence that states this must find it in its evidence.
    pub fn is_required(&self) -> bool {
        !matches!(self, Self::Number { pronoun: true, unit: Unit::None, .. })
    }
}

/// The value of a number word below a hundred, one word only.
pub(crate) fn number_word(lower: &str) -> Option<u32> {
    const SMALL: [&str; 20] = [
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
        "thirteen",
        "fourteen",
        "fifteen",
        "sixteen",
        "seventeen",
        "eighteen",
        "nineteen",
    ];
    const TENS: [&str; 8] = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];
    let small = SMALL.iter().position(|w| *w == lower);
    let value = small.or_else(|| TENS.iter().position(|w| *w == lower).map(|at| 20 + 10 * at))?;
    u32::try_from(value).ok()
}

/// Power of ten of a word or suffix that multiplies the number before it.
fn multiplier(lower: &str) -> Option<i32> {
    match lower {
        "hundred" => Some(2),
        "k" | "thousand" => Some(3),
        "m" | "mn" | "mln" | "million" => Some(6),
        "b" | "bn" | "billion" => Some(9),
        "tn" | "trillion" => Some(12),
        _ => None,
    }
}

fn unit_of(lower: &str) -> Option<Unit> {
    let name = match lower {
        "percent" | "percentage" | "pct" => return Some(Unit::Percent),
        "dollar" | "dollars" | "usd" => return Some(Unit::Currency('$')),
        "euro" | "euros" | "eur" => return Some(Unit::Currency('€')),
        "second" | "seconds" | "sec" | "secs" => "second",
        "minute" | "minutes" | "min" | "mins" => "minute",
        "hour" | "hours" | "hr" | "hrs" | "h" => "hour",
        "day" | "days" => "day",
        "week" | "weeks" | "wk" | "wks" => "week",
        "month" | "months" => "month",
        "year" | "years" | "yr" | "yrs" => "year",
        "decade" | "decades" => "decade",
        "mg" | "milligram" | "milligrams" => "mg",
        "g" | "gram" | "grams" => "g",
        "kg" | "kilogram" | "kilograms" | "kilo" | "kilos" => "kg",
        "lb" | "lbs" | "pound" | "pounds" => "pound",
        "oz" | "ounce" | "ounces" => "ounce",
        "cal" | "kcal" | "calorie" | "calories" => "calorie",
        "mile" | "miles" => "mile",
        "km" | "kilometer" | "kilometers" | "kilometre" | "kilometres" => "km",
        "meter" | "meters" | "metre" | "metres" => "metre",
        "cm" | "centimeter" | "centimeters" => "cm",
        "inch" | "inches" => "inch",
        "foot" | "feet" | "ft" => "foot",
        "ml" | "milliliter" | "milliliters" => "ml",
        "liter" | "liters" | "litre" | "litres" => "litre",
        "degree" | "degrees" => "degree",
        "times" => "times",
        _ => return None,
    };
    Some(Unit::Measure(name))
}

/// The quantities in a text, in order; `two hundred`, `twenty-five` and `1.5M` are one each.
pub(crate) fn quantities(tokens: &[Token]) -> Vec<Quantity> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let token = &tokens[at];
        at += 1;
        let (mut value, mut unit, pronoun) = match token.kind {
            Kind::Code => {
                found.push(Quantity::Opaque(token.stem.clone()));
                continue;
            }
            Kind::Number => {
                let scale = multiplier(&token.suffix);
                let suffix_unit = unit_of(&token.suffix);
                let known = token.suffix.is_empty()
                    || scale.is_some()
                    || suffix_unit.is_some()
                    || matches!(token.suffix.as_str(), "st" | "nd" | "rd" | "th");
                let (Some(value), true) = (Decimal::parse(&token.text), known) else {
                    found.push(Quantity::Opaque(format!("{}{}", token.text, token.suffix)));
                    continue;
                };
                let symbol = match token.symbol {
                    Some('%') => Some(Unit::Percent),
                    Some(currency) => Some(Unit::Currency(currency)),
                    None => None,
                };
                let value = value.times_ten_to(scale.unwrap_or(0));
                (value, symbol.or(suffix_unit).unwrap_or(Unit::None), false)
            }
            Kind::Word => {
                let Some(mut value) = number_word(&token.lower()) else { continue };
                let mut pronoun = value == 1;
                if value >= 20
                    && let Some(ones) = tokens.get(at).and_then(|t| number_word(&t.lower()))
                    && (1..10).contains(&ones)
                {
                    value += ones;
                    at += 1;
                    pronoun = false;
                }
                (Decimal::new(value.to_string(), 0), Unit::None, pronoun)
            }
            Kind::Tag | Kind::Mention | Kind::Link => continue,
        };
        let mut pronoun = pronoun;
        while let Some(power) = tokens.get(at).filter(|t| t.kind == Kind::Word).and_then(|t| {
            let lower = t.lower();
            if lower.len() > 2 { multiplier(&lower) } else { None }
        }) {
            value = value.times_ten_to(power);
            pronoun = false;
            at += 1;
        }
        if unit == Unit::None {
            let next = tokens.get(at).filter(|t| t.kind == Kind::Word).map(Token::lower);
            let after = tokens.get(at + 1).map(Token::lower);
            if next.as_deref() == Some("per") && after.as_deref() == Some("cent") {
                unit = Unit::Percent;
                at += 2;
            } else if let Some(named) = next.as_deref().and_then(unit_of) {
                unit = named;
                at += 1;
            }
        }
        found.push(Quantity::Number { value, negative: token.negative, unit, pronoun });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::tokens;

    fn allowed(evidence: &str, claimed: &str) -> bool {
        let have = quantities(&tokens(evidence));
        let want = quantities(&tokens(claimed));
        assert!(!want.is_empty(), "{claimed:?} states nothing");
        want.iter().filter(|w| w.is_required()).all(|w| have.iter().any(|h| h.allows(w)))
    }

    #[test]
    fn quantities_are_compared_by_value_and_unit() {
        for (evidence, claimed) in [
            ("1.5M people", "1,500,000 people"),
            ("$1.5 billion", "$1.5bn"),
            ("20%", "20 percent"),
            ("20 per cent", "20%"),
            ("twenty-five nurses", "25 nurses"),
            ("3 patients", "three patients"),
            ("two hundred deaths", "200 deaths"),
            ("a 20-minute walk", "20 minutes"),
            ("500mg a day", "500 mg"),
            ("aged 50 years", "over 50"),
            ("１２ cases", "12 cases"),
            ("cut by \u{2212}5%", "-5%"),
            ("H1N1 flu", "h1n1"),
            ("in 2014.", "2014"),
            ("1.50 points", "1.5 points"),
            ("the virus", "one of the viruses"),
        ] {
            assert!(allowed(evidence, claimed), "{evidence:?} states {claimed:?}");
        }
        for (evidence, claimed) in [
            ("20%", "20 people"),
            ("20 people", "20%"),
            ("1,200 people", "1,300 people"),
            ("12 cases", "21 cases"),
            ("1.5 million", "15 million"),
            ("20 minutes", "20 hours"),
            ("50 people", "50 years"),
            ("$300", "£300"),
            ("5%", "\u{2212}5%"),
            ("\u{2212}5%", "5%"),
            ("100 cases", "1O0 cases"),
            ("100 cases", "1\u{41e}0 cases"),
            ("1\u{41e}0 cases", "100 cases"),
            ("2 of 3", "2 of 4"),
            ("one case", "one million cases"),
            ("12.05.2014", "12.05"),
        ] {
            assert!(!allowed(evidence, claimed), "{evidence:?} does not state {claimed:?}");
        }
        assert!(allowed("2\u{200b}0%", "20%"), "a zero-width character changes nothing");
    }
}
