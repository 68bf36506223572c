//! What advertisers book, from JSON or a table into the database and back: all or nothing, every problem at once.

mod ad;
mod apply;
mod campaign;
mod document;
mod export;
mod fields;
mod group;
mod reading;
mod rules;
mod table;

use std::fmt;

use serde::Serialize;

pub(crate) use apply::{Change, NewVersion, plan, write};
pub(crate) use document::{Item, known_fields, parse, parse_one, unpayable};
pub(crate) use export::{Tree, fields};
pub(crate) use rules::{MAX_TEXT, has_hidden, is_known_currency};
pub(crate) use table::{parse as parse_table, write as write_table};

/// One thing wrong with a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Where, such as `$.advertisers[0].campaigns[2].daily_budget_micros`.
    pub path: String,
    /// What was found there, shortened.
    pub found: String,
    /// What is wrong and how to put it right.
    pub message: String,
}

/// As much of what a document says as an answer repeats.
fn shortened(text: &str) -> String {
    let mut shown: String = text.chars().take(60).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

/// Most problems listed; a broken export would otherwise answer with a book.
const MAX_PROBLEMS: usize = 1000;

/// Everything wrong with a document, in the order of the document.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ImportProblems {
    /// The first thousand problems.
    pub problems: Vec<Problem>,
    /// Problems past those listed.
    pub left_out: usize,
}

impl ImportProblems {
    pub(crate) fn push(&mut self, path: impl Into<String>, found: &str, message: impl Into<String>) {
        if self.problems.len() == MAX_PROBLEMS {
            self.left_out += 1;
            return;
        }
        let (path, found, message) = (path.into(), shortened(found), message.into());
        self.problems.push(Problem { path, found, message });
    }

    /// `value` if nothing is wrong, else the problems.
    pub(crate) fn or<T>(self, value: T) -> Result<T, Self> {
        if self.problems.is_empty() { Ok(value) } else { Err(self) }
    }
}

/// One line a problem.
impl fmt::Display for ImportProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the ads document has {} problem(s); nothing was imported",
            self.problems.len() + self.left_out
        )?;
        for problem in &self.problems {
            write!(f, "\n{}: {}", problem.path, problem.message)?;
            if !problem.found.is_empty() {
                write!(f, " (found {})", problem.found)?;
            }
        }
        if self.left_out > 0 {
            write!(f, "\nand {} more", self.left_out)?;
        }
        Ok(())
    }
}

/// What an import took over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ImportReport {
    /// Advertisers in the document.
    pub advertisers: usize,
    /// Campaigns in the document.
    pub campaigns: usize,
    /// Ad groups in the document.
    pub ad_groups: usize,
    /// Keywords in the document.
    pub keywords: usize,
    /// Ads in the document.
    pub ads: usize,
    /// Ads that are new or whose text or landing page changed, so that they got a new version.
    pub new_versions: usize,
    /// Ads in the document that somebody has to look at before they are shown.
    pub under_review: usize,
    /// Ads in the document that are not shown.
    pub disapproved: usize,
}
