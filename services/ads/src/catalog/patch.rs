//! A change of some fields, merged into all of them (RFC 7396) and read as a whole.

use serde_json::{Map, Value};

use crate::ImportProblems;
use crate::booking::{Booking, Level};
use crate::import::{self, known_fields};
use crate::stored::Stored;

/// The fields to change.
pub(super) fn read_patch(patch: &str) -> Result<Map<String, Value>, ImportProblems> {
    let mut problems = ImportProblems::default();
    match serde_json::from_str::<Value>(patch) {
        Ok(Value::Object(fields)) => return Ok(fields),
        Ok(other) => problems.push("$", &other.to_string(), "expected an object with the fields to change"),
        Err(error) => problems.push("$", "", format!("is not JSON: {error}")),
    }
    Err(problems)
}

/// The booking as `patch` would have it.
pub(super) fn merged(
    stored: &Stored,
    patch: &Map<String, Value>,
    currency: &str,
) -> Result<Booking, ImportProblems> {
    let (level, mut fields) = (stored.booking.level(), import::fields(&stored.booking));
    let mut problems = ImportProblems::default();
    for fixed in std::iter::once("id").chain(level.parent().map(Level::as_str)) {
        if let Some(other) = patch.get(fixed).filter(|other| Some(*other) != fields.get(fixed)) {
            problems.push(format!("$.{fixed}"), &other.to_string(), "cannot be changed: create another one");
        }
    }
    for read_only in ["revision", "review", "version"] {
        if let Some(found) = patch.get(read_only).filter(|_| !known_fields(level).contains(&read_only)) {
            problems.push(format!("$.{read_only}"), &found.to_string(), "is read only: leave it out");
        }
    }
    problems.or(())?;
    // A display address that only repeated the host follows the landing page.
    if patch.contains_key("landing_url") && !patch.contains_key("display_url") {
        let host = |url: &Value| {
            url.as_str().and_then(|url| url::Url::parse(url).ok()?.host_str().map(str::to_owned))
        };
        if fields.get("landing_url").and_then(host).as_deref() == fields["display_url"].as_str() {
            fields.shift_remove("display_url");
        }
    }
    merge(&mut fields, patch);
    import::parse_one(level, &Value::Object(fields).to_string(), currency)
}

/// RFC 7396.
fn merge(target: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (name, value) in patch {
        match (value, target.get_mut(name)) {
            (Value::Null, _) => drop(target.shift_remove(name)),
            (Value::Object(inner), Some(Value::Object(old))) => merge(old, inner),
            (value, _) => drop(target.insert(name.clone(), value.clone())),
        }
    }
}
