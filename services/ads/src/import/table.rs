//! Bookings as one flat table (CSV): a row each for advertisers, campaigns, ad groups, keywords and ads.
//!
//! The column `type` says what a row is, `parent` below which id it belongs; the other columns are the fields of the
//! JSON form, and a row fills those of its type. Codes and numbers in a list are separated by semicolons, texts in a
//! list by line breaks within the cell; an asset is one line of kind, address and description. Rows may come in any
//! order. A cell that a spreadsheet would take for a formula begins with an apostrophe, which is taken off again.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::document::{Item, known_fields};
use super::fields::{Node, unknown};
use super::reading::Reading;
use super::{ImportProblems, document, export};
use crate::booking::{Booking, Level};
use crate::stored::Stored;

/// In this order in an export; an import takes them in any.
const COLUMNS: &[&str] = &[
    "type",
    "id",
    "parent",
    "name",
    "status",
    "paid_by",
    "category",
    "balance_micros",
    "blocked_terms",
    "blocked_authors",
    "cap_impressions",
    "cap_hours",
    "daily_budget_micros",
    "lifetime_budget_micros",
    "currency",
    "starts",
    "ends",
    "bidding",
    "target_cpa_micros",
    "pacing",
    "bid_micros",
    "semantic",
    "semantic_threshold",
    "languages",
    "countries",
    "excluded_countries",
    "devices",
    "hours",
    "topics",
    "excluded_topics",
    "match_type",
    "negative",
    "headline",
    "text",
    "landing_url",
    "display_url",
    "facts",
    "assets",
    "review",
    "review_reason",
];
const CODES: &[&str] =
    &["languages", "countries", "excluded_countries", "devices", "hours", "topics", "excluded_topics"];
const LINES: &[&str] = &["blocked_terms", "blocked_authors", "facts"];
const NUMBERS: &[&str] = &[
    "category",
    "balance_micros",
    "daily_budget_micros",
    "lifetime_budget_micros",
    "target_cpa_micros",
    "bid_micros",
    "semantic",
    "semantic_threshold",
    "negative",
];
/// Most rows of a table.
const MAX_ROWS: usize = 1_000_000;

/// One row: where it stands and its cells that are not empty.
struct Row {
    path: String,
    cells: HashMap<&'static str, String>,
}

/// The things in the table `csv`, parents before children, or everything that is wrong with it.
pub(crate) fn parse(csv: &str, currency: &str) -> Result<Vec<Item>, ImportProblems> {
    let mut reading = Reading::new(currency);
    let rows = rows(csv, &mut reading.problems);
    let mut keywords: HashMap<String, Vec<Value>> = HashMap::new();
    for row in &rows {
        if row.cells.get("type").is_some_and(|kind| kind == "keyword") {
            let (parent, keyword) = row.keyword(&mut reading.problems);
            keywords.entry(parent).or_default().push(keyword);
        }
    }
    for level in Level::ALL {
        let of_level = |row: &&Row| row.cells.get("type").is_some_and(|kind| kind == level.as_str());
        for row in rows.iter().filter(of_level) {
            let mut fields = row.fields(level, &mut reading.problems);
            if level == Level::AdGroup
                && let Some(mine) = keywords.remove(row.cells.get("id").map_or("", String::as_str))
            {
                fields.insert("keywords".into(), mine.into());
            }
            let json = Value::Object(fields).to_string();
            if let Some(node) = Node::object(&json, row.path.clone(), &mut reading.problems) {
                reading.flat(level, &node, true);
            }
        }
    }
    for parent in keywords.into_keys() {
        reading.problems.push(
            "rows of type keyword",
            &parent,
            "name an ad group that the table does not hold",
        );
    }
    if rows.is_empty() && reading.problems.problems.is_empty() {
        reading.problems.push("row 2", "", "is missing: the table has no rows");
    }
    reading.finish()
}

fn rows(csv: &str, problems: &mut ImportProblems) -> Vec<Row> {
    let text = csv.strip_prefix('\u{feff}').unwrap_or(csv);
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(text.as_bytes());
    let header = match reader.headers() {
        Ok(header) => header.clone(),
        Err(error) => {
            problems.push("row 1", "", format!("is not CSV: {error}"));
            return Vec::new();
        }
    };
    let mut columns: Vec<Option<&'static str>> = Vec::new();
    for name in &header {
        let known = COLUMNS.iter().find(|known| **known == name.trim()).copied();
        if known.is_none() {
            problems.push("row 1", name, unknown(name, COLUMNS));
        } else if columns.contains(&known) {
            problems.push("row 1", name, "is a column twice: keep one");
        }
        columns.push(known);
    }
    if !columns.contains(&Some("type")) {
        problems.push("row 1", "", "has no column type: is this a table of ads with its header?");
        return Vec::new();
    }
    let mut rows = Vec::new();
    for (record, at) in reader.records().zip(2..) {
        let path = format!("row {at}");
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                problems.push(path, "", format!("is not CSV: {error}"));
                break;
            }
        };
        if rows.len() == MAX_ROWS {
            problems.push(path, "", format!("is one too many: the limit is {MAX_ROWS} rows"));
            break;
        }
        if record.len() > columns.len() {
            problems.push(&path, &record.len().to_string(), "has more cells than the header has columns");
        }
        let cell = |(column, cell): (Option<&'static str>, &str)| {
            let cell = cell.strip_prefix('\'').unwrap_or(cell);
            column.filter(|_| !cell.is_empty()).map(|column| (column, cell.to_owned()))
        };
        let cells: HashMap<_, _> = columns.iter().copied().zip(&record).filter_map(cell).collect();
        if cells.is_empty() {
            continue;
        }
        let kind = cells.get("type").map_or("", String::as_str);
        if kind != "keyword" && !Level::ALL.iter().any(|level| level.as_str() == kind) {
            problems.push(
                format!("{path}.type"),
                kind,
                "expected advertiser, campaign, ad_group, keyword or ad",
            );
        }
        rows.push(Row { path, cells });
    }
    rows
}

impl Row {
    /// The row as a JSON object of its type.
    fn fields(&self, level: Level, problems: &mut ImportProblems) -> Map<String, Value> {
        let mut known = known_fields(level);
        known.extend(["type", "parent", "cap_impressions", "cap_hours"]);
        if level == Level::Ad {
            known.extend(document::REVIEW);
        }
        let capped = known.contains(&"frequency_cap");
        let mut fields = Map::new();
        for name in COLUMNS {
            let Some(cell) = self.cells.get(name) else { continue };
            if !known.contains(name) || name.starts_with("cap_") && !capped {
                let message = format!("is no column of a row of type {}: leave it empty", level.as_str());
                problems.push(format!("{}.{name}", self.path), cell, message);
                continue;
            }
            match *name {
                "type" => {}
                "cap_impressions" | "cap_hours" => {
                    let cap = fields.entry("frequency_cap").or_insert_with(|| json!({}));
                    cap[name.trim_start_matches("cap_")] = plain(cell);
                }
                "parent" => match level.parent() {
                    Some(above) => drop(fields.insert(above.as_str().into(), json!(cell))),
                    None => {
                        problems.push(format!("{}.parent", self.path), cell, "an advertiser has no parent");
                    }
                },
                name if CODES.contains(&name) => {
                    let numeric = matches!(name, "hours" | "topics" | "excluded_topics");
                    let part = |part: &str| if numeric { plain(part) } else { json!(part) };
                    let parts = cell.split([';', ',']).map(str::trim).filter(|part| !part.is_empty());
                    fields.insert(name.into(), parts.map(part).collect());
                }
                name if LINES.contains(&name) => {
                    let lines = cell.lines().map(str::trim).filter(|line| !line.is_empty());
                    fields.insert(name.into(), lines.collect());
                }
                "assets" => {
                    let asset = |line: &str| {
                        let mut parts = line.splitn(3, ' ');
                        let mut next = || parts.next().unwrap_or_default();
                        json!({"kind": next(), "url": next(), "alt": next()})
                    };
                    fields.insert("assets".into(), cell.lines().map(asset).collect());
                }
                name if NUMBERS.contains(&name) => drop(fields.insert(name.into(), plain(cell))),
                name => drop(fields.insert(name.into(), json!(cell))),
            }
        }
        fields
    }

    /// Id of the ad group, and the keyword as JSON.
    fn keyword(&self, problems: &mut ImportProblems) -> (String, Value) {
        for (name, cell) in &self.cells {
            if !matches!(*name, "type" | "parent" | "text" | "match_type" | "negative") {
                let message = "is no column of a row of type keyword: leave it empty";
                problems.push(format!("{}.{name}", self.path), cell, message);
            }
        }
        let cell = |name: &str| self.cells.get(name).map(String::as_str);
        let parent = cell("parent").unwrap_or_default().to_owned();
        let negative = cell("negative").map_or(Value::Bool(false), plain);
        (parent, json!({"text": cell("text"), "match_type": cell("match_type"), "negative": negative}))
    }
}

/// A number or boolean as such, with every digit as it is written; anything else as text, for the rule to refuse.
fn plain(cell: &str) -> Value {
    let cell = cell.trim();
    match cell.to_ascii_lowercase().as_str() {
        "true" => json!(true),
        "false" => json!(false),
        _ => match serde_json::from_str::<Value>(cell) {
            Ok(Value::Number(number)) if number.to_string() == cell => Value::Number(number),
            _ => json!(cell),
        },
    }
}

/// What is booked and not removed, as such a table.
pub(crate) fn write(stored: &[Stored]) -> Result<String, csv::Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(COLUMNS)?;
    for stored in export::Tree::new(stored).flat() {
        let mut fields = export::reviewed(stored);
        let level = stored.booking.level();
        fields.insert("type".into(), level.as_str().into());
        if let Some(parent) = level.parent().and_then(|above| fields.shift_remove(above.as_str())) {
            fields.insert("parent".into(), parent);
        }
        if let Some(Value::Object(cap)) = fields.shift_remove("frequency_cap") {
            fields.extend(cap.into_iter().map(|(name, value)| (format!("cap_{name}"), value)));
        }
        writer.write_record(COLUMNS.iter().map(|name| cell(name, fields.get(*name))))?;
        let Booking::AdGroup(group) = &stored.booking else { continue };
        for keyword in &group.keywords {
            let row = json!({
                "type": "keyword", "parent": group.id, "text": keyword.text, "negative": keyword.negative,
                "match_type": keyword.match_type.as_str(),
            });
            writer.write_record(COLUMNS.iter().map(|name| cell(name, row.get(*name))))?;
        }
    }
    let bytes = writer.into_inner().map_err(|error| csv::Error::from(error.into_error()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn cell(name: &str, value: Option<&Value>) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let text = match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::Array(list)) if name == "assets" => {
            let line = |a: &Value| format!("{} {} {}", text(&a["kind"]), text(&a["url"]), text(&a["alt"]));
            list.iter().map(line).collect::<Vec<_>>().join("\n")
        }
        Some(Value::Array(list)) => {
            let parts: Vec<String> = list.iter().map(text).collect();
            parts.join(if LINES.contains(&name) { "\n" } else { ";" })
        }
        Some(value) => text(value),
    };
    if text.starts_with(['=', '+', '-', '@', '\t', '\r', '\'']) { format!("'{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "type,id,parent,name,daily_budget_micros,currency,bid_micros,languages,hours,match_type,text,\
        headline,landing_url,facts,cap_impressions,cap_hours\n\
        ad,x,g,,,,,,,,Text,Head,https://a.example/,\"One.\nTwo.\",,\n\
        keyword,,g,,,,,,,phrase,running shoes,,,,,\n\
        ad_group,g,c,,,,1000000,en;de,8;9,,,,,,,\n\
        campaign,c,a,Camp,5000000,USD,,,,,,,,,5,24\n\
        advertiser,a,,'=Acme,,,,,,,,,,,,\n";

    #[test]
    fn rows_come_in_any_order_and_lists_in_cells() {
        let items = parse(GOOD, "USD").unwrap_or_else(|problems| panic!("{problems}"));
        let levels: Vec<Level> = items.iter().map(|item| item.booking.level()).collect();
        assert_eq!(levels, Level::ALL);
        let json: Vec<Value> = items.iter().map(|item| export::fields(&item.booking).into()).collect();
        assert_eq!(json[0]["name"], "=Acme");
        assert_eq!(json[1]["frequency_cap"], json!({"impressions": 5, "hours": 24}));
        assert_eq!((&json[2]["languages"], &json[2]["hours"]), (&json!(["de", "en"]), &json!([8, 9])));
        assert_eq!(json[2]["keywords"][0]["text"], "running shoes");
        assert_eq!(json[3]["facts"], json!(["One.", "Two."]));
    }

    #[test]
    fn mistakes_name_row_and_column() {
        let check = |replace: &str, by: &str, path: &str, part: &str| {
            assert!(GOOD.contains(replace), "{replace}");
            let problems = parse(&GOOD.replacen(replace, by, 1), "USD").err().expect("a mistake");
            let hit = problems.problems.iter().any(|p| p.path == path && p.message.contains(part));
            assert!(hit, "expected {path} with {part:?} in\n{problems}");
        };
        check("5000000,USD", "1e400,USD", "row 5.daily_budget_micros", "whole number of micros");
        check("5000000,USD", "5000000.0,USD", "row 5.daily_budget_micros", "whole number of micros");
        check("5000000,USD", "5000000,XXX", "row 5.currency", "ISO 4217");
        check("en;de", "en;dx", "row 4.languages[1]", "ISO 639-1");
        check("8;9", "8;168", "row 4.hours[1]", "0 to 167");
        check("1000000,en", "5000001,en", "row 4.bid_micros", "above the daily budget");
        check("campaign,c,a", "campaign,c,b c", "row 5.advertiser", "id of 1 to 64");
        check("campaign,c", "Campaign,c", "row 5.type", "expected advertiser");
        check("bid_micros", "bid_micro", "row 1", "did you mean bid_micros?");
        check("phrase,running", "fuzzy,running", "row 4.keywords[0].match_type", "exact, phrase or broad");
        check("keyword,,g", "keyword,,h", "rows of type keyword", "does not hold");
        check("advertiser,a,,'=Acme,", "advertiser,a,,Acme,7", "row 6.daily_budget_micros", "leave it empty");
        for bad in ["", "\u{0}", "id\n1", "type,id\n", "a,b\n\"", "type\nad\n"] {
            assert!(parse(bad, "USD").is_err(), "{bad:?}");
        }
    }
}
