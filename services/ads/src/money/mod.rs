//! Money that is never wrong: budgets, holds, and a ledger in which every entry adds up to nothing.
//!
//! A shown ad may cost its price later. Until then a hold keeps room for it in three scopes at once: the campaign's
//! day, the campaign's whole life, and the advertiser's account. A click or a billed impression ends the hold and
//! charges at most the price of its token, and never more than any scope has left.
//!
//! What holds at all times, checked by [`crate::AdEngine::audit`] (numbers as in the specification):
//! - I1: the postings of one entry, and so all balances, add up to 0;
//! - I2: what is settled in a scope is at most its budget, while the budget was not lowered below it;
//! - I3: what is reserved in a scope is the sum of its open holds;
//! - I4: a token settles at most once for each kind of event;
//! - I5: charges to advertisers = platform revenue + publisher's share + credits;
//! - I6: replaying the events from nothing gives the same balances and scopes;
//! - I7: charge ≤ price of the token ≤ bid.

mod audit;
mod holds;
mod liability;
mod postings;
mod replay;
mod scopes;

pub use audit::{Audit, Difference};
pub(crate) use holds::{Charge, Hold, expire, release, reserve, settle};
pub(crate) use liability::Liability;
pub use replay::Books;
pub(crate) use scopes::{Balance, Budget, scopes_of};
