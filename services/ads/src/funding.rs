//! Keeps the bits of who can pay in step with what is spent, and frequency caps with what was seen before a restart.

use std::collections::BTreeSet;

use bowerbird_auction::Micros;
use sqlx::AnyConnection;

use crate::AdsError;
use crate::caps::{Scope, UserHash};
use crate::engine::Engine;
use crate::index::AdIndex;
use crate::snapshot::Snapshot;

/// Longest window of a frequency cap, in milliseconds: 30 days.
const CAP_WINDOW_MS: i64 = 720 * 3_600_000;

impl Engine {
    /// Tells matching which campaigns cannot pay for their cheapest click on `day`. Whether money is really there is
    /// decided when the price is held.
    pub(crate) fn follow_spending(&self, snapshot: &Snapshot, day: &str) {
        let Some(changed) = self.spending.take_changed(day) else { return };
        let index = &*snapshot.ads;
        if changed.all {
            let touched = campaigns_of(snapshot, self.spending.scopes().iter().map(String::as_str), day);
            let all: BTreeSet<usize> = touched.into_iter().chain(snapshot.poor.iter().copied()).collect();
            let broke = all.into_iter().filter(|campaign| !self.can_pay(index, *campaign, day));
            self.budgets.replace_exhausted(broke.map(|campaign| index.campaigns[campaign].id.as_str()));
            return;
        }
        for campaign in campaigns_of(snapshot, changed.scopes.iter().map(String::as_str), day) {
            self.budgets.set(&index.campaigns[campaign].id, self.can_pay(index, campaign, day));
        }
    }

    fn can_pay(&self, index: &AdIndex, campaign: usize, day: &str) -> bool {
        let booked = &index.campaigns[campaign];
        let advertiser = &index.advertisers[booked.advertiser].id;
        let least = booked.groups.iter().map(|group| index.event_bid(*group)).min().unwrap_or(Micros::ZERO);
        self.spending.has_room(&booked.id, advertiser, day, &index.budget(campaign), least)
    }

    /// Counts impressions of the last 30 days under their frequency caps again.
    pub(crate) async fn restore_caps(&self, db: &mut AnyConnection) -> Result<(), AdsError> {
        let newest: Option<i64> =
            sqlx::query_scalar("SELECT MAX(at) FROM events").fetch_one(&mut *db).await?;
        let Some(newest) = newest else { return Ok(()) };
        let rows: Vec<(String, String, String, String, i64)> = sqlx::query_as(
            "SELECT s.person, s.ad, s.campaign, s.advertiser, e.at FROM served s \
             JOIN events e ON e.nonce = s.nonce AND e.kind = 'impression' AND e.status <> 'invalid' \
             WHERE s.person <> '' AND s.at >= $1 AND e.at >= $2 ORDER BY e.at, e.nonce",
        )
        .bind(newest - CAP_WINDOW_MS)
        .bind(newest - CAP_WINDOW_MS)
        .fetch_all(db)
        .await?;
        let seen = rows.iter().filter_map(|(person, ad, campaign, advertiser, at)| {
            let person = UserHash::from_hex(person)?;
            let at = at / 1000;
            Some([
                (person, Scope::Ad(ad), at),
                (person, Scope::Campaign(campaign), at),
                (person, Scope::Account(advertiser), at),
            ])
        });
        self.caps.restore(seen.flatten(), newest / 1000);
        Ok(())
    }
}

/// The campaigns whose money `scopes` are about, those of other days left out.
fn campaigns_of<'a>(
    snapshot: &Snapshot,
    scopes: impl Iterator<Item = &'a str>,
    day: &str,
) -> BTreeSet<usize> {
    let index = &*snapshot.ads;
    let mut campaigns = BTreeSet::new();
    let mut accounts: BTreeSet<&str> = BTreeSet::new();
    let at = |id: &str| snapshot.campaigns.get(id).copied();
    for scope in scopes {
        match scope.split_once('/') {
            Some(("day", rest)) => {
                campaigns.extend(rest.strip_prefix(day).and_then(|rest| rest.strip_prefix('/')).and_then(at));
            }
            Some(("life", id)) => campaigns.extend(at(id)),
            Some(("account", id)) => {
                accounts.insert(id);
            }
            _ => {}
        }
    }
    // An account without a limit stops nobody; most have none.
    let limited = |campaign: &usize| {
        let advertiser = &index.advertisers[index.campaigns[*campaign].advertiser];
        advertiser.balance.is_some() && accounts.contains(advertiser.id.as_str())
    };
    if !accounts.is_empty() && index.advertisers.iter().any(|advertiser| advertiser.balance.is_some()) {
        campaigns.extend((0..index.campaigns.len()).filter(limited));
    }
    campaigns
}
