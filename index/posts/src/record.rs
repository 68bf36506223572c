//! How one post is written: a version byte, the fields in postcard, and a checksum.
//!
//! ```text
//! offset 0      version, 1 byte: 1
//! offset 1      postcard of `Record`
//! last 4 bytes  CRC-32 (little endian) over ordinal (4 bytes, little endian), version and postcard
//! ```
//!
//! The ordinal is in the checksum so that a record under the wrong key is found too. Counters are not here: they
//! change in place, in a table of their own. The stored struct is not [`Post`], so that the wire form may change
//! and because postcard cannot read an untagged enum back.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{AttributeValue, Counts, Ordinal, Post, PostId};

const VERSION: u8 = 1;
const CHECKSUM_BYTES: usize = 4;

#[derive(Serialize, Deserialize)]
struct Record<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    text: Cow<'a, str>,
    #[serde(borrow)]
    author: Cow<'a, str>,
    created_seconds: i64,
    created_nanoseconds: i32,
    lang: Option<String>,
    tags: Cow<'a, [String]>,
    mentions: Cow<'a, [String]>,
    links: Cow<'a, [String]>,
    reply_to: Option<String>,
    attributes: Vec<(String, Value)>,
}

#[derive(Serialize, Deserialize)]
enum Value {
    Bool(bool),
    Number(f64),
    Text(String),
}

/// Version byte and fields, without the checksum: equal for two posts exactly when only counters may differ.
pub(crate) fn payload(post: &Post) -> Result<Vec<u8>, String> {
    let record = Record {
        id: post.id.as_str().into(),
        text: post.text.as_str().into(),
        author: post.author.as_str().into(),
        created_seconds: post.created_at.as_second(),
        created_nanoseconds: post.created_at.subsec_nanosecond(),
        lang: post.lang.clone(),
        tags: Cow::Borrowed(&post.tags),
        mentions: Cow::Borrowed(&post.mentions),
        links: Cow::Borrowed(&post.links),
        reply_to: post.reply_to.as_ref().map(ToString::to_string),
        attributes: post
            .attributes
            .iter()
            .map(|(name, value)| {
                let value = match value {
                    AttributeValue::Bool(value) => Value::Bool(*value),
                    AttributeValue::Number(value) => Value::Number(*value),
                    AttributeValue::Text(value) => Value::Text(value.clone()),
                };
                (name.clone(), value)
            })
            .collect(),
    };
    postcard::to_extend(&record, vec![VERSION]).map_err(|error| error.to_string())
}

/// The payload with its checksum, ready to be stored under `ordinal`.
pub(crate) fn seal(ordinal: Ordinal, mut payload: Vec<u8>) -> Vec<u8> {
    let checksum = checksum(ordinal, &payload);
    payload.extend_from_slice(&checksum.to_le_bytes());
    payload
}

/// The payload inside stored bytes, whose checksum must hold.
pub(crate) fn open(ordinal: Ordinal, stored: &[u8]) -> Result<&[u8], String> {
    let Some((payload, found)) = stored.split_last_chunk::<CHECKSUM_BYTES>() else {
        return Err(format!("{} bytes are too few for a record", stored.len()));
    };
    let (expected, found) = (u32::from_le_bytes(*found), checksum(ordinal, payload));
    if expected != found {
        return Err(format!("checksum is {found:08x}, expected {expected:08x}"));
    }
    Ok(payload)
}

/// Reads a post back; the message of an error says what is wrong with the bytes.
pub(crate) fn decode(ordinal: Ordinal, stored: &[u8], counts: Counts) -> Result<Post, String> {
    let payload = open(ordinal, stored)?;
    let Some((&version, fields)) = payload.split_first() else {
        return Err("the record is empty".to_owned());
    };
    if version != VERSION {
        return Err(format!("record version is {version}, expected {VERSION}"));
    }
    let record: Record = postcard::from_bytes(fields).map_err(|error| error.to_string())?;
    let post_id = |id: String| PostId::new(id).map_err(|error| error.to_string());
    Ok(Post {
        id: post_id(record.id.into_owned())?,
        text: record.text.into_owned(),
        author: record.author.into_owned(),
        created_at: Timestamp::new(record.created_seconds, record.created_nanoseconds)
            .map_err(|error| error.to_string())?,
        lang: record.lang,
        tags: record.tags.into_owned(),
        mentions: record.mentions.into_owned(),
        links: record.links.into_owned(),
        reply_to: record.reply_to.map(post_id).transpose()?,
        counts,
        attributes: record
            .attributes
            .into_iter()
            .map(|(name, value)| {
                let value = match value {
                    Value::Bool(value) => AttributeValue::Bool(value),
                    Value::Number(value) => AttributeValue::Number(value),
                    Value::Text(value) => AttributeValue::Text(value),
                };
                (name, value)
            })
            .collect(),
    })
}

fn checksum(ordinal: Ordinal, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&ordinal.0.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Post {
        let created: Timestamp = "1969-12-31T23:59:58.25Z".parse().expect("a timestamp");
        let mut post = Post::new(PostId::new("p1").expect("valid"), "Über #Sleep @bob", "Ann", created);
        post.lang = Some("en".into());
        post.tags = vec!["sleep".into()];
        post.mentions = vec!["bob".into()];
        post.links = vec!["https://a.example/x".into()];
        post.reply_to = Some(PostId::new("p0").expect("valid"));
        post.counts = Counts { likes: 1, reposts: 2, replies: 3, views: u64::MAX };
        post.attributes.insert("b".into(), AttributeValue::Bool(true));
        post.attributes.insert("n".into(), AttributeValue::Number(-0.5));
        post.attributes.insert("t".into(), AttributeValue::Text("News".into()));
        post
    }

    #[test]
    fn a_post_comes_back_the_same() {
        let post = full();
        let stored = seal(Ordinal(7), payload(&post).expect("encodes"));
        assert_eq!(decode(Ordinal(7), &stored, post.counts).expect("decodes"), post);
    }

    #[test]
    fn every_flipped_bit_and_every_other_ordinal_is_found() {
        let stored = seal(Ordinal(7), payload(&full()).expect("encodes"));
        assert!(decode(Ordinal(8), &stored, Counts::default()).is_err());
        for at in 0..stored.len() {
            let mut bad = stored.clone();
            bad[at] ^= 1 << (at % 8);
            assert!(decode(Ordinal(7), &bad, Counts::default()).is_err(), "byte {at}");
            assert!(decode(Ordinal(7), &stored[..at], Counts::default()).is_err(), "length {at}");
        }
    }

    #[test]
    fn another_version_is_named() {
        let mut payload = payload(&full()).expect("encodes");
        payload[0] = 9;
        let error = decode(Ordinal(1), &seal(Ordinal(1), payload), Counts::default());
        assert_eq!(error.expect_err("unknown version"), "record version is 9, expected 1");
    }
}
