//! A checked document into the tables.

use std::collections::HashMap;

use super::document::{Item, count, unpayable};
use super::{ImportProblems, ImportReport};
use crate::AdsError;
use crate::booking::{Ad, Booking, Level, Review};
use crate::policy::{Verdict, judge};
use crate::store::{Connection, Tx};
use crate::stored::{self, Stored, Which};

/// A document that fits what is stored, with what it changes there.
pub(crate) struct Planned {
    changes: Vec<Change>,
    report: ImportReport,
    /// The state of the catalog it was planned against.
    seen: i64,
}

/// One booking that is new or differs.
pub(crate) struct Change {
    pub booking: Booking,
    /// Of an ad: its version from now on.
    pub version: i64,
    /// What the ad says is new.
    pub new_words: bool,
    pub verdict: Verdict,
    /// Who decided the verdict, where it is new.
    pub reviewer: Option<String>,
}

/// An ad version that has to be embedded.
pub(crate) struct NewVersion {
    pub ad: String,
    pub version: i64,
    pub passage: String,
}

impl Change {
    /// What has to be embedded before the change is written.
    pub fn new_version(&self) -> Option<NewVersion> {
        match &self.booking {
            Booking::Ad(ad) if self.new_words => Some(NewVersion {
                ad: ad.id.clone(),
                version: self.version,
                passage: crate::index::passage(&ad.words.headline, &ad.words.text),
            }),
            _ => None,
        }
    }

    /// What makes `booking` of what is stored; `None` when nothing differs. A review in hand decides over the policy,
    /// which is asked about new words only.
    pub fn between(
        stored: Option<&Stored>,
        booking: Booking,
        review: Option<Verdict>,
        who: &str,
    ) -> Option<Self> {
        let (mut version, mut new_words, mut verdict) = (0, false, Verdict::default());
        let mut reviewer = None;
        if let Booking::Ad(ad) = &booking {
            let before = stored.and_then(|stored| words_of(stored).map(|words| (stored, words)));
            (version, verdict) =
                before.map_or((0, Verdict::default()), |(s, _)| (s.version, s.verdict.clone()));
            new_words = before.is_none_or(|(_, words)| *words != ad.words);
            if new_words {
                version += 1;
                verdict = judge(&ad.words);
                reviewer = Some("policy".to_owned());
            }
            if let Some(review) = review.filter(|given| {
                new_words || (given.review, &given.reason) != (verdict.review, &verdict.reason)
            }) {
                verdict = review;
                reviewer = Some(who.to_owned());
            }
        }
        let same = stored.is_some_and(|s| !s.removed && s.booking == booking && s.verdict == verdict);
        (!same).then_some(Self { booking, version, new_words, verdict, reviewer })
    }

    /// Writes it.
    pub async fn write(&self, tx: &mut Tx<'_>, at_ms: i64) -> Result<(), AdsError> {
        stored::write(tx, &self.booking, self.version, &self.verdict).await?;
        if let Booking::Ad(ad) = &self.booking {
            if self.new_words {
                stored::write_words(tx, ad, self.version).await?;
            }
            if let Some(reviewer) = &self.reviewer {
                stored::record_review(tx, &ad.id, &self.verdict, reviewer, at_ms).await?;
            }
        }
        Ok(())
    }
}

fn words_of(stored: &Stored) -> Option<&crate::booking::Words> {
    match &stored.booking {
        Booking::Ad(Ad { words, .. }) => Some(words),
        _ => None,
    }
}

impl Planned {
    /// Ads whose text is new.
    pub fn new_versions(&self) -> Vec<NewVersion> {
        self.changes.iter().filter_map(Change::new_version).collect()
    }

    /// What the import does.
    pub fn report(&self) -> ImportReport {
        self.report
    }
}

/// Everything booked, by level and id.
pub(crate) async fn load_all(db: &mut Connection) -> Result<HashMap<(Level, String), Stored>, AdsError> {
    let mut all = HashMap::new();
    for level in Level::ALL {
        for stored in stored::load(db, level, Which::All).await? {
            all.insert((level, stored.booking.id().to_owned()), stored);
        }
    }
    Ok(all)
}

/// Compares `items` with what is stored: an ad whose words changed gets its next version, and an id that already hangs
/// under another parent is a problem.
pub(crate) async fn plan(
    db: &mut Connection,
    items: &[Item],
) -> Result<Result<Planned, ImportProblems>, AdsError> {
    let seen = stored::changes(db).await?;
    let all = load_all(db).await?;
    let mut problems = ImportProblems::default();
    check(items, &all, &mut problems);
    let mut report = count(items);
    let mut changes = Vec::new();
    for item in items {
        let known = all.get(&(item.booking.level(), item.booking.id().to_owned()));
        let review = item.review.clone().map(|(review, reason)| Verdict {
            review,
            reason,
            topic: String::new().into(),
        });
        let change = Change::between(known, item.booking.clone(), review, "import");
        let verdict = change.as_ref().map(|change| &change.verdict).or(known.map(|known| &known.verdict));
        match verdict.map(|verdict| verdict.review) {
            Some(Review::UnderReview) => report.under_review += 1,
            Some(Review::Disapproved) => report.disapproved += 1,
            Some(Review::Approved) | None => {}
        }
        report.new_versions += usize::from(change.as_ref().is_some_and(|change| change.new_words));
        changes.extend(change);
    }
    Ok(problems.or(Planned { changes, report, seen }))
}

/// What is wrong between the things of a document and those that are stored.
fn check(items: &[Item], all: &HashMap<(Level, String), Stored>, problems: &mut ImportProblems) {
    let named: HashMap<(Level, &str), &Item> =
        items.iter().map(|item| ((item.booking.level(), item.booking.id()), item)).collect();
    for Item { path, booking, .. } in items {
        let (level, id) = (booking.level(), booking.id());
        let known = all.get(&(level, id.to_owned()));
        let Some((above, parent)) = level.parent().zip(booking.parent()) else { continue };
        if let Some(other) = known.and_then(|known| known.booking.parent()).filter(|other| *other != parent) {
            let message = format!("already belongs to {} {other}: give it another id", above.words());
            problems.push(format!("{path}.id"), id, message);
        }
        let there = named.contains_key(&(above, parent))
            || all.get(&(above, parent.to_owned())).is_some_and(|stored| !stored.removed);
        if !there {
            let message = format!("there is no {} of that id", above.words());
            problems.push(format!("{path}.{}", above.as_str()), parent, message);
        }
        if let Booking::AdGroup(group) = booking
            && !named.contains_key(&(above, parent))
            && let Some(Stored { booking: Booking::Campaign(campaign), .. }) =
                all.get(&(above, parent.to_owned()))
            && let Some(message) = unpayable(group, campaign)
        {
            problems.push(format!("{path}.bid_micros"), &group.bid.0.to_string(), message);
        }
    }
    for stored in all.values().filter(|stored| !stored.removed) {
        if let Booking::AdGroup(group) = &stored.booking
            && !named.contains_key(&(Level::AdGroup, group.id.as_str()))
            && let Some(Item { path, booking: Booking::Campaign(campaign), .. }) =
                named.get(&(Level::Campaign, group.campaign.as_str()))
            && unpayable(group, campaign).is_some()
        {
            let message =
                format!("is under the bid of ad group {}, {}: lower that first", group.id, group.bid);
            let found = campaign.daily_budget.0.to_string();
            problems.push(format!("{path}.daily_budget_micros"), &found, message);
        }
    }
}

/// Writes `planned` within `tx`, if the catalog is still as it was then; else it has to be planned again. What the
/// document does not name stays as it is.
pub(crate) async fn write(tx: &mut Tx<'_>, planned: &Planned, at_ms: i64) -> Result<bool, AdsError> {
    if stored::changes(tx).await? != planned.seen {
        return Ok(false);
    }
    for change in &planned.changes {
        change.write(tx, at_ms).await?;
    }
    if !planned.changes.is_empty() {
        stored::note_change(tx).await?;
    }
    Ok(true)
}
