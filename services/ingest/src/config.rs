//! Settings of the ingest log.

use std::fmt;
use std::path::PathBuf;

use bytesize::ByteSize;
use serde::Deserialize;
use url::Url;

use crate::IngestError;

/// Messages of a batch, at most.
const MAX_BATCH: usize = 10_000;
/// Bytes of a batch: below it a batch would hold one post of the largest size.
const BATCH_BYTES: std::ops::RangeInclusive<u64> = 1 << 20..=256 << 20;

/// `[ingest]`
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IngestConfig {
    /// Servers, such as `nats://127.0.0.1:4222` or `tls://a:4222,tls://b:4222`; empty means that nothing is ingested.
    pub url: String,
    /// The stream. It must exist, and keep messages until its limits (retention `limits`).
    pub stream: String,
    /// Name of this node's consumer, of its own among the nodes that follow the stream; made up and kept in the data
    /// directory when absent.
    pub name: Option<String>,
    /// Which subjects of the stream to read, such as `posts.>`; all when absent.
    pub subject: Option<String>,
    /// Most messages of one durable transaction. One waits for the disk, so a few hundred share its cost; more gain
    /// little.
    pub batch: usize,
    /// Most bytes of one; a larger message comes alone.
    pub batch_bytes: ByteSize,
    /// A `.creds` file with the JWT and the seed of a user.
    pub credentials: Option<PathBuf>,
    /// A token, best given as `BOWERBIRD_INGEST__TOKEN`.
    pub token: Option<String>,
}

impl Default for IngestConfig {
    fn default() -> Self {
        Self {
            url: String::new(),
            stream: "POSTS".into(),
            name: None,
            subject: None,
            batch: 1000,
            batch_bytes: ByteSize::mib(8),
            credentials: None,
            token: None,
        }
    }
}

impl fmt::Debug for IngestConfig {
    /// Everything but the token and what an address says before `@`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IngestConfig")
            .field("url", &self.shown_url())
            .field("stream", &self.stream)
            .field("name", &self.name)
            .field("subject", &self.subject)
            .field("batch", &self.batch)
            .field("batch_bytes", &self.batch_bytes)
            .field("credentials", &self.credentials)
            .field("token", &self.token.as_ref().map(|_| "set"))
            .finish()
    }
}

impl IngestConfig {
    /// Whether anything is ingested.
    pub fn enabled(&self) -> bool {
        !self.url.is_empty()
    }

    /// Refuses values out of range, all at once; what is off is not looked at.
    pub fn validate(&self) -> Result<(), IngestError> {
        if !self.enabled() {
            return Ok(());
        }
        let mut problems = Vec::new();
        for address in self.addresses() {
            let known =
                Url::parse(address).is_ok_and(|url| matches!(url.scheme(), "nats" | "tls") && url.has_host());
            if !known {
                problems.push(format!(
                    "url has {:?}, expected nats://HOST:PORT or tls://HOST:PORT",
                    shown(address)
                ));
            }
        }
        if !is_name(&self.stream) {
            problems.push(format!("stream is {:?}, expected the name of a stream", self.stream));
        }
        if let Some(name) = self.name.as_ref().filter(|name| !is_name(name)) {
            problems.push(format!("name is {name:?}, expected letters, digits, `-` and `_`"));
        }
        if self
            .subject
            .as_ref()
            .is_some_and(|subject| subject.is_empty() || subject.contains(char::is_whitespace))
        {
            problems.push("subject is not a subject: leave it out for all of the stream".into());
        }
        if !(1..=MAX_BATCH).contains(&self.batch) {
            problems.push(format!("batch is {}, expected 1 to {MAX_BATCH}", self.batch));
        }
        if !BATCH_BYTES.contains(&self.batch_bytes.as_u64()) {
            problems.push(format!("batch_bytes is {}, expected 1 MiB to 256 MiB", self.batch_bytes));
        }
        if self.credentials.is_some() && self.token.is_some() {
            problems.push("credentials and token are both set: give one".into());
        }
        if problems.is_empty() { Ok(()) } else { Err(IngestError::Config { problems }) }
    }

    /// The servers, one by one.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = &str> {
        self.url.split(',').map(str::trim).filter(|address| !address.is_empty())
    }

    /// The servers without user names, passwords and tokens.
    pub(crate) fn shown_url(&self) -> String {
        self.addresses().map(shown).collect::<Vec<_>>().join(",")
    }
}

/// An address without what comes before `@`.
fn shown(address: &str) -> String {
    match (address.split_once("://"), address.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        (None, Some((_, host))) => host.to_owned(),
        (_, None) => address.to_owned(),
    }
}

/// What the server takes as a name of a stream or consumer, and shells without quotes.
fn is_name(name: &str) -> bool {
    (1..=200).contains(&name.len()) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bad_value_is_named_unless_it_is_off() {
        let bad = IngestConfig {
            url: "nats://a:4222,http://u:geheim@b".into(),
            stream: "a.b".into(),
            name: Some(String::new()),
            subject: Some("a b".into()),
            batch: 0,
            batch_bytes: ByteSize::kib(1),
            credentials: Some("x.creds".into()),
            token: Some("geheim".into()),
        };
        let error = bad.validate().expect_err("bad").to_string();
        for part in
            ["http://b", "stream", "name", "subject", "batch is 0", "batch_bytes", "credentials and token"]
        {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert!(!error.contains("geheim") && !format!("{bad:?}").contains("geheim"), "{error} {bad:?}");
        IngestConfig { url: String::new(), ..bad }.validate().expect("off");
        let good = IngestConfig { url: "nats://a:4222, tls://b:4222".into(), ..IngestConfig::default() };
        good.validate().expect("good");
        assert_eq!(good.shown_url(), "nats://a:4222,tls://b:4222");
    }
}
