//! How a remote generator is configured.

use std::fmt;
use std::time::Duration;

use reqwest::Url;
use tokio::sync::Semaphore;

use crate::LlmError;

/// Longest accepted timeout.
const LONGEST_WAIT: Duration = Duration::from_hours(24);

/// Which server to ask and how patiently. [`RemoteConfig::new`] gives defaults.
#[derive(Clone)]
pub struct RemoteConfig {
    /// Address up to and without `/chat/completions`, such as `http://127.0.0.1:8000/v1`.
    pub base_url: String,
    /// Name of the model as the server knows it.
    pub model: String,
    /// Sent as a bearer token.
    pub api_key: Option<String>,
    /// Longest time to connect, each try.
    pub connect_timeout: Duration,
    /// Longest silence of the server, before and within an answer.
    pub idle_timeout: Duration,
    /// Longest time of a whole generation, whatever its deadline.
    pub request_timeout: Duration,
    /// Tries after the first when no connection can be made. Nothing else is tried again.
    pub connect_retries: usize,
    /// Generations at a time; one more is refused at once.
    pub max_in_flight: usize,
    /// Failures in a row after which the server is left alone.
    pub breaker_failures: u32,
    /// For how long.
    pub breaker_cooldown: Duration,
    /// Longest answer, with its framing.
    pub max_response_bytes: usize,
    /// Address of an HTTP proxy. The environment's proxy settings are not looked at.
    pub proxy: Option<String>,
}

impl RemoteConfig {
    /// `model` at `base_url`, without a key.
    pub fn new(base_url: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            base_url: base_url.into(),
            model: model.into(),
            api_key: None,
            connect_timeout: Duration::from_secs(3),
            // A loaded server may take this long to read a prompt.
            idle_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_mins(2),
            connect_retries: 2,
            max_in_flight: 32,
            breaker_failures: 5,
            breaker_cooldown: Duration::from_secs(15),
            max_response_bytes: 8 << 20,
            proxy: None,
        }
    }
}

impl fmt::Debug for RemoteConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteConfig")
            .field(
                "base_url",
                &Url::parse(&self.base_url).map_or_else(|_| "[invalid]".to_owned(), |url| shown(&url)),
            )
            .field("model", &self.model)
            .field("api_key", &self.api_key.as_ref().map(|_| "[hidden]"))
            .field("connect_timeout", &self.connect_timeout)
            .field("idle_timeout", &self.idle_timeout)
            .field("request_timeout", &self.request_timeout)
            .field("connect_retries", &self.connect_retries)
            .field("max_in_flight", &self.max_in_flight)
            .field("breaker_failures", &self.breaker_failures)
            .field("breaker_cooldown", &self.breaker_cooldown)
            .field("max_response_bytes", &self.max_response_bytes)
            .field("proxy", &self.proxy.as_ref().map(|_| "[hidden]"))
            .finish()
    }
}

impl RemoteConfig {
    /// Checks everything but the key; the address that is asked.
    pub(crate) fn endpoint(&self) -> Result<Url, LlmError> {
        let invalid = |field, expected: &str, found: String| LlmError::Config {
            field,
            expected: expected.to_owned(),
            found,
        };
        let mut endpoint = Url::parse(&self.base_url)
            .map_err(|error| invalid("base_url", "an http or https address", error.to_string()))?;
        if !matches!(endpoint.scheme(), "http" | "https") || !endpoint.has_host() {
            return Err(invalid("base_url", "an http or https address", shown(&endpoint)));
        }
        if !endpoint.username().is_empty() || endpoint.password().is_some() {
            return Err(invalid("base_url", "no credentials in it: use api_key", shown(&endpoint)));
        }
        endpoint
            .path_segments_mut()
            .map_err(|()| {
                invalid("base_url", "an http or https address", "an address without a path".to_owned())
            })?
            .pop_if_empty()
            .extend(["chat", "completions"]);
        for (field, value) in [
            ("connect_timeout", self.connect_timeout),
            ("idle_timeout", self.idle_timeout),
            ("request_timeout", self.request_timeout),
            ("breaker_cooldown", self.breaker_cooldown),
        ] {
            if value.is_zero() || value > LONGEST_WAIT {
                return Err(invalid(field, "more than zero and at most a day", format!("{value:?}")));
            }
        }
        if !(1..=Semaphore::MAX_PERMITS).contains(&self.max_in_flight) {
            return Err(invalid("max_in_flight", "at least 1", self.max_in_flight.to_string()));
        }
        Ok(endpoint)
    }
}

/// An address without credentials, query and fragment.
pub(crate) fn shown(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}
