//! Signed event tokens: what an impression or click link carries, and the proof that we wrote it.
//!
//! Layout, version 1, big-endian, then base64url without padding:
//!
//! ```text
//! 0   u8        version, 1
//! 1   u16       kid: which key signed
//! 3   u8        kind: 1 impression, 2 billed click, 3 billed impression, 4 click of a billed impression
//! 4   [u8; 16]  auction id
//! 20  u8        slot, from 1
//! 21  u32       version of the ad that was shown
//! 25  i64       price of the billed event, micros
//! 33  i64       time of the decision, Unix milliseconds
//! 41  i64       expiry, Unix milliseconds
//! 49  [u8; 8]   first bytes of the SHA-256 of the landing address
//! 57  u8        length of the ad id, n
//! 58  [u8; n]   ad id
//! 58+n [u8; 16] HMAC-SHA256 of all before, truncated
//! ```

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bowerbird_auction::Micros;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use uuid::Uuid;

const VERSION: u8 = 1;
const FIXED_BYTES: usize = 58;
const TAG_BYTES: usize = 16;
/// Longest ad id, in bytes.
pub(crate) const MAX_ID_BYTES: usize = 64;
/// Longest token, in characters.
const MAX_TOKEN_CHARS: usize = (FIXED_BYTES + MAX_ID_BYTES + TAG_BYTES).div_ceil(3) * 4;

/// Why a token is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a token: wrong length, alphabet or version.
    #[error("malformed: expected the token of a link as it was given out")]
    Malformed,
    /// The signature does not fit, or the key is unknown.
    #[error("signature does not verify: use the link as it was given out")]
    Signature,
    /// An impression token was used as a click, or the other way round.
    #[error("is for {found}, expected {expected}: use that link of the block")]
    Kind {
        /// What the call takes.
        expected: &'static str,
        /// What the token is for.
        found: &'static str,
    },
    /// The ad is gone, or its landing page is not the one that was signed.
    #[error("the ad it was given out for is not known here")]
    UnknownAd,
}

/// What a token proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Impression,
    Click,
}

/// Which of the two events of a shown ad is paid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Billed {
    Click,
    Impression,
}

impl Billed {
    /// `per_click` or `per_impression`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Click => "per_click",
            Self::Impression => "per_impression",
        }
    }
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Impression => "impression",
            Self::Click => "click",
        }
    }
}

/// What is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Payload {
    pub kind: Kind,
    pub billed: Billed,
    pub auction_id: Uuid,
    /// From 1.
    pub slot: u8,
    pub ad_id: String,
    pub ad_version: u32,
    pub price: Micros,
    pub decided_ms: i64,
    pub expires_ms: i64,
    pub destination: [u8; 8],
}

impl Payload {
    /// Name of the shown slot: reservation and events of one impression share it.
    pub fn nonce(&self) -> String {
        nonce(self.auction_id, usize::from(self.slot), &self.ad_id)
    }
}

/// See [`Payload::nonce`].
pub(crate) fn nonce(auction_id: Uuid, slot: usize, ad_id: &str) -> String {
    format!("{auction_id}:{slot}:{ad_id}")
}

/// What a landing address is bound by.
pub(crate) fn destination_hash(landing_url: &str) -> [u8; 8] {
    let digest = Sha256::digest(landing_url.as_bytes());
    std::array::from_fn(|at| digest[at])
}

/// Signs with the newest key and verifies with any.
pub(crate) struct Keys(BTreeMap<u16, [u8; 32]>);

impl Keys {
    /// `None` when there is no key.
    pub fn new(keys: BTreeMap<u16, [u8; 32]>) -> Option<Self> {
        if keys.is_empty() { None } else { Some(Self(keys)) }
    }

    /// The token of `payload`; an id past [`MAX_ID_BYTES`], which import refuses, is [`TokenError::Malformed`].
    pub fn sign(&self, payload: &Payload) -> Result<String, TokenError> {
        let id = payload.ad_id.as_bytes();
        let length =
            u8::try_from(id.len()).ok().filter(|_| id.len() <= MAX_ID_BYTES).ok_or(TokenError::Malformed)?;
        let (kid, key) = self.0.last_key_value().ok_or(TokenError::Signature)?;
        let mut bytes = Vec::with_capacity(FIXED_BYTES + id.len() + TAG_BYTES);
        bytes.push(VERSION);
        bytes.extend(kid.to_be_bytes());
        bytes.push(match (payload.kind, payload.billed) {
            (Kind::Impression, Billed::Click) => 1,
            (Kind::Click, Billed::Click) => 2,
            (Kind::Impression, Billed::Impression) => 3,
            (Kind::Click, Billed::Impression) => 4,
        });
        bytes.extend(payload.auction_id.as_bytes());
        bytes.push(payload.slot);
        bytes.extend(payload.ad_version.to_be_bytes());
        bytes.extend(payload.price.0.to_be_bytes());
        bytes.extend(payload.decided_ms.to_be_bytes());
        bytes.extend(payload.expires_ms.to_be_bytes());
        bytes.extend(payload.destination);
        bytes.push(length);
        bytes.extend(id);
        let tag = mac(key, &bytes).finalize().into_bytes();
        bytes.extend(&tag[..TAG_BYTES]);
        Ok(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// What `token` says, if one of our keys signed it as `expected`. Says nothing about expiry or reuse.
    pub fn verify(&self, token: &str, expected: Kind) -> Result<Payload, TokenError> {
        if token.len() > MAX_TOKEN_CHARS {
            return Err(TokenError::Malformed);
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| TokenError::Malformed)?;
        let body_bytes = bytes.len().checked_sub(TAG_BYTES).ok_or(TokenError::Malformed)?;
        let (body, tag) = bytes.split_at(body_bytes);
        let mut reader = Reader(body);
        if reader.take()? != [VERSION] {
            return Err(TokenError::Malformed);
        }
        let kid = u16::from_be_bytes(reader.take()?);
        let key = self.0.get(&kid).ok_or(TokenError::Signature)?;
        mac(key, body).verify_truncated_left(tag).map_err(|_| TokenError::Signature)?;
        let payload = parse(reader)?;
        if payload.kind == expected {
            Ok(payload)
        } else {
            Err(TokenError::Kind { expected: expected.as_str(), found: payload.kind.as_str() })
        }
    }
}

fn mac(key: &[u8; 32], bytes: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(bytes);
    mac
}

fn parse(mut reader: Reader) -> Result<Payload, TokenError> {
    let (kind, billed) = match reader.take()? {
        [1] => (Kind::Impression, Billed::Click),
        [2] => (Kind::Click, Billed::Click),
        [3] => (Kind::Impression, Billed::Impression),
        [4] => (Kind::Click, Billed::Impression),
        _ => return Err(TokenError::Malformed),
    };
    let auction_id = Uuid::from_bytes(reader.take()?);
    let [slot] = reader.take()?;
    let ad_version = u32::from_be_bytes(reader.take()?);
    let price = Micros(i64::from_be_bytes(reader.take()?));
    let decided_ms = i64::from_be_bytes(reader.take()?);
    let expires_ms = i64::from_be_bytes(reader.take()?);
    let destination = reader.take()?;
    let [length] = reader.take()?;
    if reader.0.len() != usize::from(length) {
        return Err(TokenError::Malformed);
    }
    let ad_id = std::str::from_utf8(reader.0).map_err(|_| TokenError::Malformed)?.to_owned();
    Ok(Payload {
        kind,
        billed,
        auction_id,
        slot,
        ad_id,
        ad_version,
        price,
        decided_ms,
        expires_ms,
        destination,
    })
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], TokenError> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(TokenError::Malformed)?;
        self.0 = rest;
        Ok(*head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys(kids: &[u16]) -> Keys {
        let seed = |kid: u16| std::array::from_fn(|at| (usize::from(kid) * 7 + at) as u8);
        Keys::new(kids.iter().map(|kid| (*kid, seed(*kid))).collect()).expect("at least one")
    }

    fn payload(kind: Kind) -> Payload {
        Payload {
            kind,
            billed: Billed::Click,
            auction_id: Uuid::from_u128(0x0123_4567_89ab_cdef),
            slot: 2,
            ad_id: "shoes-1".into(),
            ad_version: 3,
            price: Micros(573_333),
            decided_ms: 1_426_430_000_000,
            expires_ms: 1_426_433_600_000,
            destination: destination_hash("https://shoes.example/"),
        }
    }

    #[test]
    fn what_was_signed_comes_back() {
        let keys = keys(&[1]);
        for kind in [Kind::Impression, Kind::Click] {
            for billed in [Billed::Click, Billed::Impression] {
                let payload = Payload { billed, ..payload(kind) };
                let token = keys.sign(&payload).expect("signs");
                assert!(token.len() <= MAX_TOKEN_CHARS);
                assert_eq!(keys.verify(&token, kind), Ok(payload));
            }
        }
        let click = keys.sign(&payload(Kind::Click)).expect("signs");
        let error = keys.verify(&click, Kind::Impression).expect_err("kinds differ");
        assert_eq!(error, TokenError::Kind { expected: "impression", found: "click" });
    }

    #[test]
    fn the_longest_id_fits_and_a_longer_one_does_not() {
        let keys = keys(&[1]);
        let mut long = payload(Kind::Click);
        long.ad_id = "x".repeat(MAX_ID_BYTES);
        let token = keys.sign(&long).expect("signs");
        assert_eq!(keys.verify(&token, Kind::Click), Ok(long.clone()));
        long.ad_id.push('x');
        assert_eq!(keys.sign(&long), Err(TokenError::Malformed));
    }

    #[test]
    fn keys_rotate_without_breaking_old_links() {
        let old = keys(&[1]).sign(&payload(Kind::Click)).expect("signs");
        let both = keys(&[1, 2]);
        assert_eq!(both.verify(&old, Kind::Click), Ok(payload(Kind::Click)));
        let new = both.sign(&payload(Kind::Click)).expect("signs");
        assert_eq!(keys(&[1]).verify(&new, Kind::Click), Err(TokenError::Signature), "the newest key signs");
    }

    #[test]
    fn every_single_flipped_bit_is_noticed() {
        let keys = keys(&[1]);
        let token = keys.sign(&payload(Kind::Click)).expect("signs");
        let bytes = URL_SAFE_NO_PAD.decode(&token).expect("our own");
        for bit in 0..bytes.len() * 8 {
            let mut forged = bytes.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            let result = keys.verify(&URL_SAFE_NO_PAD.encode(&forged), Kind::Click);
            assert!(
                matches!(result, Err(TokenError::Signature | TokenError::Malformed)),
                "bit {bit}: {result:?}"
            );
        }
    }

    #[test]
    fn every_truncation_is_noticed() {
        let keys = keys(&[1]);
        let token = keys.sign(&payload(Kind::Click)).expect("signs");
        for length in 0..token.len() {
            assert!(keys.verify(&token[..length], Kind::Click).is_err(), "{length} characters");
        }
        assert!(keys.verify(&format!("{token}A"), Kind::Click).is_err());
        assert!(keys.verify(&"A".repeat(1_000_000), Kind::Click).is_err());
    }

    proptest! {
        #[test]
        fn no_input_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), text in any::<String>()) {
            let keys = keys(&[1]);
            prop_assert!(keys.verify(&text, Kind::Click).is_err());
            prop_assert!(keys.verify(&URL_SAFE_NO_PAD.encode(&bytes), Kind::Click).is_err());
        }

        /// Signed by us but nonsense inside: refused, or parsed, never a panic.
        #[test]
        fn no_signed_body_panics(body in prop::collection::vec(any::<u8>(), 0..100)) {
            let keys = keys(&[1]);
            let mut bytes = vec![VERSION, 0, 1];
            bytes.extend(body);
            let tag = mac(&keys.0[&1], &bytes).finalize().into_bytes();
            bytes.extend(&tag[..TAG_BYTES]);
            let _ = keys.verify(&URL_SAFE_NO_PAD.encode(&bytes), Kind::Click);
        }
    }
}
