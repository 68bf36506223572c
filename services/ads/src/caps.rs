//! Frequency caps: at most so many impressions of an ad, campaign or account to one person in so many hours.
//!
//! A place is taken when an ad is chosen and becomes an impression when it was seen, or runs out. Taken places count,
//! so any number of requests at once cannot exceed a cap. Impressions are counted by the hour; the hour in which the
//! window begins counts whole, so a cap holds in every window and lets the next one through up to an hour late.
//!
//! People are known by a keyed hash alone ([`UserHash`]), and the table by a keyed hash of that and the scope. It is
//! kept in memory, [`ENTRY_BYTES`] for each person and scope that was shown something within the window, up to the
//! given number of them; when the table is full no capped ad is shown to somebody new. There is no clock inside.

use std::collections::HashMap;
use std::hash::Hasher;

use hmac::{Hmac, Mac};
use parking_lot::{Mutex, MutexGuard};
use sha2::Sha256;
use siphasher::sip128::{Hasher128, SipHasher24};
use smallvec::SmallVec;

use crate::AdsError;
use crate::targeting::FrequencyCap;

/// Parts of the table that are locked on their own.
const SHARDS: usize = 256;
/// Longest window, in hours.
const MAX_HOURS: u16 = 720;
/// Most bytes of a user key.
const MAX_USER_BYTES: usize = 256;
/// Bytes of one person and scope while it has at most eight hours with impressions and places taken; four more for
/// each further one. The table is between 7/16 and 7/8 full, so count 74 to 147.
#[cfg(test)]
pub(crate) const ENTRY_BYTES: usize = size_of::<((u64, u64), Entry)>();

/// A person, as far as caps know one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct UserHash([u8; 16]);

impl UserHash {
    /// First half of the HMAC-SHA256 of `user`, 1 to 256 bytes, under a secret of the server. The key itself is kept
    /// nowhere.
    pub fn new(secret: &[u8; 32], user: &str) -> Result<Self, AdsError> {
        if user.is_empty() || user.len() > MAX_USER_BYTES {
            return Err(AdsError::UserKey { limit: MAX_USER_BYTES, found: user.len() });
        }
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes a key of any length");
        mac.update(user.as_bytes());
        let digest = mac.finalize().into_bytes();
        Ok(Self(std::array::from_fn(|at| digest[at])))
    }

    /// As stored with an impression, to be given to [`Caps::restore`] later.
    pub fn to_hex(self) -> String {
        hex::encode(self.0)
    }

    /// The inverse of [`UserHash::to_hex`].
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 16];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }
}

/// What a cap counts, by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope<'a> {
    Ad(&'a str),
    Campaign(&'a str),
    Account(&'a str),
}

/// The caps of one ad: those of itself, its campaign and its account.
pub(crate) type Scopes<'a> = SmallVec<[(Scope<'a>, FrequencyCap); 3]>;

type Key = (u64, u64);

/// Places taken by one shown ad, to be given back or made an impression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hold {
    keys: SmallVec<[Key; 3]>,
    /// Unix seconds.
    expires: u32,
}

/// One person and scope.
#[derive(Default)]
struct Entry {
    /// First `pending` expiries of places taken, in Unix seconds, then hours with impressions as `hour << 8 | count`.
    marks: SmallVec<[u32; 8]>,
    pending: u8,
    /// Window it was last asked with.
    hours: u16,
}

impl Entry {
    /// Drops what has run out by `now`.
    fn prune(&mut self, now: u32) {
        let pending = usize::from(self.pending);
        let oldest = (now / 3600).saturating_sub(u32::from(self.hours));
        let mut at = 0;
        let mut left = 0;
        self.marks.retain(|mark| {
            let keep = if at < pending { *mark > now } else { *mark >> 8 >= oldest };
            left += u8::from(keep && at < pending);
            at += 1;
            keep
        });
        self.pending = left;
    }

    /// Impressions and places taken.
    fn used(&self) -> u32 {
        let shown = &self.marks[usize::from(self.pending)..];
        u32::from(self.pending) + shown.iter().map(|mark| mark & 0xff).sum::<u32>()
    }

    fn hold(&mut self, expires: u32) {
        self.marks.insert(0, expires);
        self.pending += 1;
    }

    fn give_back(&mut self, expires: u32) {
        let pending = &self.marks[..usize::from(self.pending)];
        if let Some(at) = pending.iter().position(|held| *held == expires) {
            self.marks.remove(at);
            self.pending -= 1;
        }
    }

    fn count(&mut self, at: u32) {
        let hour = at / 3600;
        let shown = &mut self.marks[usize::from(self.pending)..];
        match shown.iter_mut().find(|mark| **mark >> 8 == hour && **mark & 0xff < 0xff) {
            Some(mark) => *mark += 1,
            None => self.marks.push(hour << 8 | 1),
        }
    }
}

type Shard = HashMap<Key, Entry>;

/// Counts of impressions by person and scope.
pub(crate) struct Caps {
    shards: Vec<Mutex<Shard>>,
    key: (u64, u64),
    shard_entries: usize,
    hold_seconds: u32,
}

impl Caps {
    /// At most `entries` persons and scopes; a place taken runs out after `hold_seconds`, which must be no less than
    /// an impression may come late. `secret` keys the table.
    pub fn new(secret: &[u8; 32], entries: usize, hold_seconds: u32) -> Self {
        let half = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| secret[at + byte]));
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            key: (half(0), half(8)),
            shard_entries: entries.div_ceil(SHARDS),
            hold_seconds,
        }
    }

    /// Whether all caps leave room for one more impression at `now` (Unix seconds). Takes no place.
    pub fn room(&self, user: UserHash, scopes: &[(Scope<'_>, FrequencyCap)], now: i64) -> bool {
        let now = seconds(now);
        scopes.iter().all(|(scope, cap)| {
            let key = self.key_of(user, *scope);
            let mut shard = self.shards[shard_of(key)].lock();
            let full = shard.len() >= self.shard_entries;
            match shard.get_mut(&key) {
                Some(entry) => fits(entry, *cap, now),
                None => cap.impressions > 0 && !(full && make_room(&mut shard, self.shard_entries, now)),
            }
        })
    }

    /// Takes a place under every cap at `now` (Unix seconds), or none: `None` when one has no room.
    pub fn try_hold(&self, user: UserHash, scopes: &[(Scope<'_>, FrequencyCap)], now: i64) -> Option<Hold> {
        let now = seconds(now);
        let keys: SmallVec<[Key; 3]> = scopes.iter().map(|(scope, _)| self.key_of(user, *scope)).collect();
        let mut locked = self.lock(&keys);
        for (key, (_, cap)) in keys.iter().zip(scopes) {
            let shard = locked.shard(*key);
            let full = shard.len() >= self.shard_entries;
            if !shard.contains_key(key) && full && make_room(shard, self.shard_entries, now) {
                return None;
            }
            // An entry made here for a hold that then fails holds nothing, and goes with the next sweep.
            if !fits(shard.entry(*key).or_default(), *cap, now) {
                return None;
            }
        }
        let expires = now.saturating_add(self.hold_seconds);
        for key in &keys {
            locked.shard(*key).entry(*key).or_default().hold(expires);
        }
        Some(Hold { keys, expires })
    }

    /// The ad of `hold` was seen at `now` (Unix seconds): counts, even when the place has run out.
    pub fn confirm(&self, hold: &Hold, now: i64) {
        let mut locked = self.lock(&hold.keys);
        for key in &hold.keys {
            let entry = locked.shard(*key).entry(*key).or_default();
            if entry.hours == 0 {
                // It ran out and was dropped in the meantime; the window is known again with the next question.
                entry.hours = MAX_HOURS;
            }
            entry.give_back(hold.expires);
            entry.count(seconds(now));
        }
    }

    /// Gives the places back: the ad was not shown after all.
    pub fn release(&self, hold: &Hold) {
        let mut locked = self.lock(&hold.keys);
        for key in &hold.keys {
            if let Some(entry) = locked.shard(*key).get_mut(key) {
                entry.give_back(hold.expires);
            }
        }
    }

    /// Counts impressions of the past, as read from the books after a restart: person, scope and Unix seconds. Older
    /// ones than 30 days before `now` are left out.
    pub fn restore<'a>(&self, impressions: impl IntoIterator<Item = (UserHash, Scope<'a>, i64)>, now: i64) {
        let now = seconds(now);
        for (user, scope, at) in impressions {
            let (key, at) = (self.key_of(user, scope), seconds(at));
            if at / 3600 + u32::from(MAX_HOURS) < now / 3600 {
                continue;
            }
            let mut shard = self.shards[shard_of(key)].lock();
            let entry = shard.entry(key).or_default();
            entry.hours = MAX_HOURS;
            entry.count(at);
        }
    }

    /// Persons and scopes that are kept.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    fn key_of(&self, user: UserHash, scope: Scope<'_>) -> Key {
        let (kind, id) = match scope {
            Scope::Ad(id) => (0, id),
            Scope::Campaign(id) => (1, id),
            Scope::Account(id) => (2, id),
        };
        let mut hasher = SipHasher24::new_with_keys(self.key.0, self.key.1);
        hasher.write(&user.0);
        hasher.write(&[kind]);
        hasher.write(id.as_bytes());
        hasher.finish128().as_u64()
    }

    /// Locks the shards of `keys` in their order, each once.
    fn lock(&self, keys: &[Key]) -> Locked<'_> {
        let mut wanted: SmallVec<[usize; 3]> = keys.iter().map(|key| shard_of(*key)).collect();
        wanted.sort_unstable();
        wanted.dedup();
        Locked(wanted.into_iter().map(|shard| (shard, self.shards[shard].lock())).collect())
    }
}

struct Locked<'a>(SmallVec<[(usize, MutexGuard<'a, Shard>); 3]>);

impl Locked<'_> {
    fn shard(&mut self, key: Key) -> &mut Shard {
        let found = self.0.iter_mut().find(|(shard, _)| *shard == shard_of(key));
        &mut found.expect("the shards of all keys were locked").1
    }
}

fn shard_of(key: Key) -> usize {
    (key.0 % SHARDS as u64) as usize
}

fn seconds(at: i64) -> u32 {
    u32::try_from(at.max(0)).unwrap_or(u32::MAX)
}

fn fits(entry: &mut Entry, cap: FrequencyCap, now: u32) -> bool {
    entry.hours = cap.hours.min(MAX_HOURS);
    entry.prune(now);
    entry.used() < u32::from(cap.impressions)
}

/// Drops what has run out from a full shard, and says whether it is still full.
fn make_room(shard: &mut Shard, limit: usize, now: u32) -> bool {
    shard.retain(|_, entry| {
        entry.prune(now);
        !entry.marks.is_empty()
    });
    shard.len() >= limit
}

/// Holds of ads that were given out, by auction and slot, until they are seen or run out.
///
/// The event that confirms an impression knows auction and slot from its token, and no person.
#[derive(Default)]
pub(crate) struct HoldBook {
    held: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    by_slot: HashMap<(u128, u8), Hold>,
    /// Size at which what has run out is dropped.
    sweep_at: usize,
}

impl HoldBook {
    /// Keeps `hold` for the slot, until it runs out.
    pub fn keep(&self, auction: u128, slot: u8, hold: Hold, now: i64) {
        let mut kept = self.held.lock();
        if kept.by_slot.len() >= kept.sweep_at.max(1024) {
            kept.by_slot.retain(|_, hold| hold.expires > seconds(now));
            kept.sweep_at = kept.by_slot.len() * 2;
        }
        kept.by_slot.insert((auction, slot), hold);
    }

    /// The hold of the slot, once.
    pub fn take(&self, auction: u128, slot: u8) -> Option<Hold> {
        self.held.lock().by_slot.remove(&(auction, slot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    const SECRET: [u8; 32] = [7; 32];
    const HOUR: i64 = 3600;

    fn user(name: &str) -> UserHash {
        UserHash::new(&SECRET, name).expect("short")
    }

    fn cap(impressions: u8, hours: u16) -> FrequencyCap {
        FrequencyCap { impressions, hours }
    }

    #[test]
    fn all_scopes_or_none() {
        let caps = Caps::new(&SECRET, 1000, 600);
        let ad = |id| {
            [
                (Scope::Ad(id), cap(2, 24)),
                (Scope::Campaign("c"), cap(3, 24)),
                (Scope::Account("x"), cap(9, 24)),
            ]
        };
        let (ann, bob, now) = (user("ann"), user("bob"), 1_000_000);
        assert!(caps.try_hold(ann, &ad("a"), now).is_some());
        assert!(caps.try_hold(ann, &ad("a"), now).is_some());
        assert!(caps.try_hold(ann, &ad("a"), now).is_none(), "the ad's cap");
        let third = caps.try_hold(ann, &ad("b"), now).expect("the refused hold took nothing");
        assert!(!caps.room(ann, &ad("b"), now), "the campaign's cap");
        assert!(
            caps.room(bob, &ad("a"), now) && caps.try_hold(bob, &ad("a"), now).is_some(),
            "another person"
        );
        caps.release(&third);
        assert!(caps.room(ann, &ad("b"), now));
        assert!(
            !caps.room(ann, &ad("a"), now + 599) && caps.room(ann, &ad("a"), now + 600),
            "places run out"
        );
        assert!(caps.try_hold(ann, &[], now).is_some(), "no cap, no limit");
    }

    #[test]
    fn impressions_count_for_their_window() {
        for hours in [1u16, 24, 720] {
            let caps = Caps::new(&SECRET, 1000, 600);
            let scopes = [(Scope::Ad("a"), cap(2, hours))];
            // The last second of an hour: the window that is hardest to count by the hour.
            let start = 500_000 * HOUR + 3599;
            for at in [start, start + 5] {
                let hold = caps.try_hold(user("ann"), &scopes, at).expect("room");
                caps.confirm(&hold, at);
            }
            let end = start + i64::from(hours) * HOUR;
            for (at, expected) in [(start + 6, false), (end, false), (end + HOUR + 5, true)] {
                assert_eq!(caps.room(user("ann"), &scopes, at), expected, "{hours} h, {} s", at - start);
            }
        }
    }

    #[test]
    fn an_impression_counts_once_and_even_late() {
        let caps = Caps::new(&SECRET, 1000, 600);
        let scopes = [(Scope::Ad("a"), cap(2, 24))];
        let hold = caps.try_hold(user("ann"), &scopes, 1_000_000).expect("room");
        caps.confirm(&hold, 1_000_010);
        assert!(caps.room(user("ann"), &scopes, 1_000_010), "one of two");
        let late = caps.try_hold(user("ann"), &scopes, 1_000_020).expect("room");
        assert!(!caps.room(user("ann"), &scopes, 1_000_030));
        assert!(caps.room(user("ann"), &scopes, 1_000_700));
        caps.confirm(&late, 1_000_800);
        assert!(!caps.room(user("ann"), &scopes, 1_000_800));
    }

    #[test]
    fn many_at_once_never_exceed_a_cap() {
        const THREADS: u32 = 64;
        let caps = Caps::new(&SECRET, 100_000, 600);
        let (shown, ad_shown) = (AtomicU32::new(0), [const { AtomicU32::new(0) }; 4]);
        let ids = ["a", "b", "c", "d"];
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (caps, shown, ad_shown) = (&caps, &shown, &ad_shown);
                scope.spawn(move || {
                    for turn in 0..200u32 {
                        let at = (thread + turn) as usize % ids.len();
                        let scopes = [
                            (Scope::Ad(ids[at]), cap(40, 24)),
                            (Scope::Campaign("c"), cap(100, 24)),
                            (Scope::Account("x"), cap(110, 24)),
                        ];
                        let Some(hold) = caps.try_hold(user("ann"), &scopes, 1_000_000) else { continue };
                        if (thread + turn) % 3 == 0 {
                            caps.release(&hold);
                        } else {
                            caps.confirm(&hold, 1_000_001);
                            shown.fetch_add(1, Ordering::SeqCst);
                            ad_shown[at].fetch_add(1, Ordering::SeqCst);
                        }
                    }
                });
            }
        });
        assert_eq!(shown.load(Ordering::SeqCst), 100, "the campaign's cap, to the last place");
        assert!(ad_shown.iter().all(|shown| shown.load(Ordering::SeqCst) <= 40), "{ad_shown:?}");
    }

    #[test]
    fn memory_is_bounded_and_comes_back() {
        assert_eq!(ENTRY_BYTES, 64);
        let caps = Caps::new(&SECRET, SHARDS * 4, 600);
        let scopes = [(Scope::Ad("a"), cap(1, 1))];
        let held = |from: u32, now| {
            (from..from + 5000)
                .filter(|n| caps.try_hold(user(&n.to_string()), &scopes, now).is_some())
                .count()
        };
        let first = held(0, 1_000_000);
        assert!(first <= SHARDS * 4 && caps.len() == first, "{first} holds");
        assert!(first > SHARDS * 3, "{first} holds");
        assert_eq!(held(0, 1_000_001), 0, "the known ones are at their cap, the others find no room");
        assert!(held(5000, 1_000_000 + 3 * HOUR) > SHARDS * 3, "what ran out makes room");
        assert!(caps.len() <= SHARDS * 4);
    }

    #[test]
    fn a_restart_forgets_nothing_that_was_booked() {
        let now = 500_000 * HOUR;
        let caps = Caps::new(&SECRET, 1000, 600);
        let seen = |hours_ago: i64| (user("ann"), Scope::Campaign("c"), now - hours_ago * HOUR);
        caps.restore([seen(1), seen(30), seen(800)], now);
        let room = |impressions, hours| {
            caps.room(user("ann"), &[(Scope::Campaign("c"), cap(impressions, hours))], now)
        };
        assert!(!room(2, 720), "two in 30 days");
        assert!(room(3, 720), "the third is too long ago");
        assert!(!room(1, 24) && room(2, 24));
    }

    #[test]
    fn people_are_hashed() {
        assert_ne!(user("ann"), user("bob"));
        assert_ne!(UserHash::new(&[8; 32], "ann").expect("short"), user("ann"), "another server");
        assert_eq!(UserHash::from_hex(&user("ann").to_hex()), Some(user("ann")));
        assert_eq!(UserHash::from_hex("zz"), None);
        assert!(UserHash::new(&SECRET, &"x".repeat(257)).is_err() && UserHash::new(&SECRET, "").is_err());
    }

    #[test]
    fn holds_are_found_by_their_slot_once() {
        let (caps, book) = (Caps::new(&SECRET, 1000, 600), HoldBook::default());
        let hold = caps.try_hold(user("ann"), &[(Scope::Ad("a"), cap(1, 1))], 0).expect("room");
        book.keep(1, 1, hold.clone(), 0);
        for auction in 2..3000 {
            book.keep(auction, 1, hold.clone(), 601);
        }
        assert_eq!(book.take(1, 1), None, "ran out and was swept");
        assert!(book.take(2999, 1).is_some() && book.take(2999, 1).is_none());
    }
}
