//! JSON read field by field, so that one problem does not hide the next.
//!
//! Values stay unparsed text until a rule asks for them. That keeps what a number parser would lose or refuse
//! (`1e400`, `1.50`) available for the message, and notices a key that is written twice.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{ImportProblems, shortened};

/// What is said of a field or column that is none of `known`.
pub(super) fn unknown(name: &str, known: &[&str]) -> String {
    let alike = |known: &str| strsim::normalized_damerau_levenshtein(name, known);
    // `bid` is a short way of writing `bid_micros` rather than a slip of `id`.
    let begins = |known: &&&str| known.strip_prefix(name).is_some_and(|rest| rest.starts_with('_'));
    let nearest = known.iter().find(begins).or_else(|| {
        known.iter().max_by(|a, b| alike(a).total_cmp(&alike(b))).filter(|near| alike(near) >= 0.4)
    });
    let hint = nearest.map_or(String::new(), |near| format!(" did you mean {near}?"));
    format!("unknown field:{hint} known are {}", known.join(", "))
}

/// A value and where it stands.
#[derive(Clone)]
pub(super) struct Node<'a> {
    pub path: String,
    raw: &'a RawValue,
}

/// The fields of an object.
pub(super) struct Fields<'a> {
    pub path: String,
    entries: Vec<(String, &'a RawValue)>,
}

struct Entries<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Entries<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AsList;
        impl<'de> Visitor<'de> for AsList {
            type Value = Entries<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry::<String, &'de RawValue>()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(AsList)
    }
}

impl<'a> Node<'a> {
    /// The whole document; a syntax error is the only problem that can be reported then.
    pub fn document(json: &'a str, problems: &mut ImportProblems) -> Option<Self> {
        Self::object(json, "$".into(), problems)
    }

    /// The JSON object in `json`, which stands at `path`.
    pub fn object(json: &'a str, path: String, problems: &mut ImportProblems) -> Option<Self> {
        match serde_json::from_str::<&RawValue>(json) {
            Ok(raw) => Some(Self { path, raw }),
            Err(error) => {
                problems.push(path, "", format!("is not JSON: {error}"));
                None
            }
        }
    }

    /// The fields of an object that has no others than `known`; `None` when it is not an object.
    pub fn fields(&self, known: &[&str], problems: &mut ImportProblems) -> Option<Fields<'a>> {
        let Ok(Entries(entries)) = serde_json::from_str::<Entries<'a>>(self.raw.get()) else {
            problems.push(&self.path, self.raw.get(), "expected an object");
            return None;
        };
        for (at, (name, value)) in entries.iter().enumerate() {
            let path = || format!("{}.{}", self.path, shortened(name));
            if !known.contains(&name.as_str()) {
                problems.push(path(), value.get(), unknown(name, known));
            } else if entries[..at].iter().any(|(earlier, _)| earlier == name) {
                problems.push(path(), value.get(), "written twice: keep one");
            }
        }
        Some(Fields { path: self.path.clone(), entries })
    }

    fn micros(&self, from: i64, to: i64, problems: &mut ImportProblems) -> Option<i64> {
        self.integer(from, to, problems, || {
            format!(
                "expected a whole number of micros (millionths of the currency unit) from {from} to {to}, \
                 written without point or exponent: 1500000 is 1.50"
            )
        })
    }

    /// A whole number within `from..=to`.
    pub fn whole(&self, from: i64, to: i64, problems: &mut ImportProblems) -> Option<i64> {
        self.integer(from, to, problems, || format!("expected a whole number from {from} to {to}"))
    }

    fn integer(
        &self,
        from: i64,
        to: i64,
        problems: &mut ImportProblems,
        expected: impl FnOnce() -> String,
    ) -> Option<i64> {
        let text = self.raw.get();
        let value = text.parse::<i64>().ok().filter(|value| (from..=to).contains(value));
        if value.is_none() {
            problems.push(&self.path, text, expected());
        }
        value
    }

    pub fn string(&self, problems: &mut ImportProblems) -> Option<String> {
        let parsed = serde_json::from_str::<String>(self.raw.get()).ok();
        if parsed.is_none() {
            problems.push(&self.path, self.raw.get(), "expected a string");
        }
        parsed
    }
}

impl<'a> Fields<'a> {
    /// Path of the field `name`.
    pub fn path_of(&self, name: &str) -> String {
        format!("{}.{name}", self.path)
    }

    /// A field that may be left out; `null` counts as left out.
    pub fn optional(&self, name: &str) -> Option<Node<'a>> {
        let (_, raw) = self.entries.iter().find(|(known, raw)| known == name && raw.get() != "null")?;
        Some(Node { path: self.path_of(name), raw })
    }

    pub fn required(&self, name: &str, problems: &mut ImportProblems) -> Option<Node<'a>> {
        let found = self.optional(name);
        if found.is_none() {
            problems.push(self.path_of(name), "", "is missing");
        }
        found
    }

    pub fn string(&self, name: &str, problems: &mut ImportProblems) -> Option<String> {
        self.required(name, problems)?.string(problems)
    }

    pub fn optional_string(&self, name: &str, problems: &mut ImportProblems) -> Option<String> {
        self.optional(name)?.string(problems)
    }

    /// An integer within `from..=to`, written without point or exponent.
    pub fn micros(&self, name: &str, from: i64, to: i64, problems: &mut ImportProblems) -> Option<i64> {
        self.required(name, problems)?.micros(from, to, problems)
    }

    /// [`Fields::micros`] that may be left out.
    pub fn optional_micros(
        &self,
        name: &str,
        from: i64,
        to: i64,
        problems: &mut ImportProblems,
    ) -> Option<i64> {
        self.optional(name)?.micros(from, to, problems)
    }

    /// A whole number within `from..=to` that may be left out.
    pub fn optional_whole(
        &self,
        name: &str,
        from: i64,
        to: i64,
        problems: &mut ImportProblems,
    ) -> Option<i64> {
        self.optional(name)?.whole(from, to, problems)
    }

    /// A number within `from..=to` that may be left out.
    pub fn optional_number(
        &self,
        name: &str,
        from: f64,
        to: f64,
        problems: &mut ImportProblems,
    ) -> Option<f64> {
        let node = self.optional(name)?;
        let value = serde_json::from_str::<f64>(node.raw.get()).ok().filter(|v| (from..=to).contains(v));
        if value.is_none() {
            problems.push(&node.path, node.raw.get(), format!("expected a number from {from} to {to}"));
        }
        value
    }

    pub fn optional_bool(&self, name: &str, default: bool, problems: &mut ImportProblems) -> bool {
        let Some(node) = self.optional(name) else { return default };
        serde_json::from_str(node.raw.get()).unwrap_or_else(|_| {
            problems.push(&node.path, node.raw.get(), "expected true or false");
            default
        })
    }

    /// The elements of a list that may be left out and may be empty, at most `limit`.
    pub fn list(&self, name: &str, limit: usize, problems: &mut ImportProblems) -> Vec<Node<'a>> {
        let Some(node) = self.optional(name) else { return Vec::new() };
        let Ok(items) = serde_json::from_str::<Vec<&'a RawValue>>(node.raw.get()) else {
            problems.push(&node.path, node.raw.get(), "expected a list");
            return Vec::new();
        };
        if items.len() > limit {
            problems.push(
                &node.path,
                &items.len().to_string(),
                format!("has too many entries: the limit is {limit}"),
            );
            return Vec::new();
        }
        let item = |(at, raw)| Node { path: format!("{}[{at}]", node.path), raw };
        items.into_iter().enumerate().map(item).collect()
    }

    pub fn strings(&self, name: &str, limit: usize, problems: &mut ImportProblems) -> Vec<(String, String)> {
        let items = self.list(name, limit, problems);
        items.into_iter().filter_map(|item| item.string(problems).map(|text| (item.path, text))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(json: &str) -> (Fields<'_>, ImportProblems) {
        let mut problems = ImportProblems::default();
        let node = Node::document(json, &mut problems).expect("JSON");
        (node.fields(&["a", "b"], &mut problems).expect("object"), problems)
    }

    #[test]
    fn unknown_and_repeated_fields_are_reported_with_their_path() {
        let (_, problems) = object(r#"{"a": 1, "c": 2, "a": 3}"#);
        let paths: Vec<&str> = problems.problems.iter().map(|p| p.path.as_str()).collect();
        assert_eq!(paths, ["$.c", "$.a"]);
    }

    #[test]
    fn numbers_are_judged_by_their_text() {
        for bad in ["1e400", "1.5", "1e3", "-1", "0", "99999999999999999999", "\"5\"", "[]"] {
            let json = format!("{{\"a\": {bad}}}");
            let (fields, mut problems) = object(&json);
            assert_eq!(fields.micros("a", 1, 10, &mut problems), None, "{bad}");
            assert_eq!(problems.problems[0].found, bad);
        }
        let (fields, mut problems) = object(r#"{"a": 7}"#);
        assert_eq!(fields.micros("a", 1, 10, &mut problems), Some(7));
        assert!(problems.problems.is_empty());
    }

    #[test]
    fn null_is_absent_and_syntax_errors_say_where() {
        let (fields, mut problems) = object(r#"{"a": null}"#);
        assert_eq!(fields.optional_string("a", &mut problems), None);
        assert!(problems.problems.is_empty());
        assert!(Node::document("{\"a\": }", &mut problems).is_none());
        assert!(problems.problems[0].message.contains("line 1"), "{problems}");
    }
}
