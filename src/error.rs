//! Errors of client requests, independent of the API.
//!
//! Each API maps [`ProxyError`] to a status, headers and a body in one exhaustive `match`. [`UpstreamFailure`] keeps
//! the backend's message, code, parameter and request id.

mod class;
mod refusal;

use std::fmt;
use std::time::{Duration, SystemTime};

use http::HeaderMap;

use crate::clock::rfc3339;
use crate::excerpt::{MESSAGE_CHARACTERS, excerpt};
use crate::token_source::{AuthError, CredentialSource};
pub use refusal::{Reason, Refusal};

/// Any failure of a client's request.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProxyError {
    /// The request is invalid or unsupported.
    #[error("{}", .0.message)]
    Refused(Refusal),
    /// The body, after decoding, is longer than `limits.body`.
    #[error("the request body is larger than {limit_bytes} bytes (setting limits.body)")]
    BodyTooLarge {
        /// The limit in force.
        limit_bytes: u64,
    },
    /// The body couldn't be read completely, or its content encoding is invalid.
    #[error("the request body can't be read: {reason}")]
    BodyUnreadable {
        /// The cause.
        reason: String,
    },
    /// The client sent its body, or a WebSocket message, too slowly.
    #[error(
        "the request body arrived too slowly: nothing for {} s, or less than 1 KiB per second (setting \
         timing.body_read)",
        .limit.as_secs_f32()
    )]
    BodyTooSlow {
        /// The maximum time without data.
        limit: Duration,
    },
    /// Other requests use the memory that this one needs.
    #[error("running requests use all of the {limit_bytes} bytes of memory (setting limits.memory)")]
    MemoryFull {
        /// The limit in force.
        limit_bytes: usize,
        /// How long the client should wait before it retries; `None` if the backend has already done the work, which a
        /// retry would repeat.
        retry_after: Option<Duration>,
    },
    /// Parsing the body would need more than the whole memory limit.
    #[error("the request body has more JSON values than fit in {limit_bytes} bytes of memory (setting limits.memory)")]
    TooManyValues {
        /// The limit in force.
        limit_bytes: usize,
    },
    /// The content encoding isn't supported.
    #[error("content encoding '{encoding}' is not supported; use gzip, deflate, br, zstd or none")]
    UnsupportedEncoding {
        /// The value of the header.
        encoding: String,
    },
    /// A POST with another content type than the endpoint accepts, as a web page can send without a preflight request.
    #[error("send the request {expected}")]
    UnsupportedMediaType {
        /// How to send it: the content type, and the option of curl.
        expected: &'static str,
    },
    /// The path doesn't exist.
    #[error("unknown path: {method} {path}")]
    UnknownPath {
        /// Request method.
        method: String,
        /// Path as the client sent it.
        path: String,
    },
    /// The path doesn't exist, because the client adds a prefix that its base URL contains already.
    #[error("Unknown path {path}. Your client adds {prefix} itself: use {base} as its base URL.")]
    DoubledPath {
        /// Path as the client sent it.
        path: String,
        /// The prefix that the client adds.
        prefix: &'static str,
        /// The base URL to set.
        base: String,
    },
    /// The path exists but not with this method.
    #[error("method {method} is not allowed here; use {allowed}")]
    MethodNotAllowed {
        /// Request method.
        method: String,
        /// Value of the `allow` header.
        allowed: String,
    },
    /// A service that the OpenAI API has and a subscription hasn't.
    #[error("a ChatGPT subscription has no {service}; {instead}")]
    NotOffered {
        /// The requested service.
        service: &'static str,
        /// The alternative.
        instead: &'static str,
    },
    /// Client keys are configured, and the client sent none or a wrong one.
    #[error(
        "a valid API key of this proxy is required ({})",
        match .credentials {
            CredentialSource::Store => "'Authorization: Bearer', 'x-api-key', 'api-key' or 'x-goog-api-key'",
            CredentialSource::Client => "'x-api-key', 'api-key' or 'x-goog-api-key'",
        }
    )]
    KeyRequired {
        /// Whose login requests are sent with: a client's own one takes the header `Authorization`.
        credentials: CredentialSource,
    },
    /// The `Host` header is neither loopback, nor the configured address, nor in `allowed_hosts`.
    #[error("host '{host}' is not allowed; if it is yours, add it to the setting allowed_hosts")]
    ForeignHost {
        /// The header's value.
        host: String,
    },
    /// The request comes from a web page of another origin.
    #[error("origin '{origin}' is not allowed; if it is yours, add it to the setting allowed_origins")]
    ForeignOrigin {
        /// The header's value.
        origin: String,
    },
    /// The request comes from another user of this machine, and neither a key nor a setting allows that.
    #[error(
        "{}; set a client key ([[keys]] in the config file) and send it, or set allow_other_users = true",
        match .uid {
            Some(uid) => format!("this request comes from another user of this machine (uid {uid})"),
            None => "the user that sent this request can't be determined".to_owned(),
        }
    )]
    ForeignUser {
        /// The user's id; `None`: the lookup failed.
        uid: Option<u32>,
    },
    /// A page of another site made the browser send the request.
    #[error(
        "a web page of another site caused this request (header sec-fetch-site), which is not allowed; open the \
         address yourself, or call fetch() from a page whose origin is in the setting allowed_origins"
    )]
    CrossSite,
    /// The maximum number of requests is running, and none has ended in time.
    #[error("{running} {what}")]
    Busy {
        /// The limit in force.
        running: usize,
        /// What is running, and the setting that limits it, after the number.
        what: &'static str,
        /// How long the client should wait before it retries.
        retry_after: Duration,
    },
    /// The client key has, or batches have, reached their share of a quota window.
    #[error("{0}")]
    Reserved(Box<Reserve>),
    /// There is no bearer token.
    #[error(transparent)]
    Auth(AuthError),
    /// The backend reported a failure, as a status or in the stream.
    #[error("{}", .0.message)]
    Upstream(Box<UpstreamFailure>),
    /// The backend can't be reached.
    #[error("the ChatGPT backend can't be reached: {cause}")]
    Unreachable {
        /// The cause: DNS, TLS, proxy, refused, reset; contains no secrets.
        cause: String,
    },
    /// The backend sent nothing for longer than a timeout.
    #[error("the ChatGPT backend sent nothing for {} s while {phase}", .limit.as_secs_f32())]
    Silent {
        /// The phase in which the timeout expired.
        phase: Phase,
        /// The timeout.
        limit: Duration,
    },
    /// The stream ended or broke before its terminal event, or a document before its end.
    #[error("the response is incomplete: the ChatGPT backend ended it early{}", .cause.as_ref().map(|c| format!(" ({c})")).unwrap_or_default())]
    Truncated {
        /// The transport's error, if there was one.
        cause: Option<String>,
    },
    /// The request is a larger WebSocket message than the backend accepts (close code 1009).
    #[error(
        "the request is too large for a WebSocket: the ChatGPT backend refused a message of {size_bytes} bytes \
         ({reason}); set upstream.transport to auto or sse"
    )]
    MessageTooLarge {
        /// Size of the message.
        size_bytes: usize,
        /// Close code and reason.
        reason: String,
    },
    /// One event, or all events before the response starts, are longer than `limits.event`.
    #[error(
        "the ChatGPT backend sent more than {limit_bytes} bytes in one event or before the response (setting \
         limits.event)"
    )]
    EventTooLarge {
        /// The limit in force.
        limit_bytes: usize,
    },
    /// The response contained invalid data, and no later event replaced it.
    #[error("the ChatGPT backend's response is damaged: {reason}")]
    Damaged {
        /// Why it is invalid.
        reason: String,
    },
    /// The response store can't be read or written, for this reason, which contains no stored data.
    #[error("the response store can't be used ({0}); the change may not have been made")]
    StoreFailed(String),
    /// The proxy is stopping.
    #[error("the proxy is shutting down")]
    ShuttingDown,
    /// A bug in this program.
    #[error("internal error")]
    Internal,
}

impl ProxyError {
    /// Returns the error for the log. Leaves out texts of the backend and the client, which may quote the prompt.
    #[must_use]
    pub fn loggable(&self) -> String {
        let text = match self {
            Self::Upstream(failure) => {
                let (status, code) = (failure.status.unwrap_or_default(), failure.code.as_deref().unwrap_or_default());
                format!("{:?} {status} {code}", failure.fault).trim_end().to_owned()
            }
            Self::Refused(refusal) => {
                let (code, param) = (refusal.code.unwrap_or("invalid"), refusal.param.as_deref().unwrap_or("the body"));
                format!("{code}: {param}")
            }
            other => other.to_string(),
        };
        // It may contain a path, a host or a member name from the client.
        excerpt(&text, MESSAGE_CHARACTERS).to_owned()
    }
}

/// A share of a quota window that is used up.
#[derive(Clone, Debug, PartialEq)]
pub struct Reserve {
    /// Name of the client key whose share it is; `None`: that of batches.
    pub key: Option<String>,
    /// The key is served, or batches run, while at most this percentage of each window is used (`keys.window_percent`,
    /// `batch.window_percent`).
    pub allowed_percent: u8,
    /// Name of the window: `5-hour`, `weekly`.
    pub window: String,
    /// How much of the window is used.
    pub used_percent: f64,
    /// When the window resets, if known.
    pub resets_at: Option<SystemTime>,
    /// How long the client should wait before it retries.
    pub retry_after: Duration,
}

impl fmt::Display for Reserve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, allowed_percent, window, used_percent, resets_at, .. } = self;
        let setting = if let Some(key) = key {
            write!(f, "the client key '{key}' is served")?;
            "keys.window_percent"
        } else {
            write!(f, "batches run")?;
            "batch.window_percent"
        };
        write!(
            f,
            " while at most {allowed_percent} % of each quota window is used (setting {setting}); {used_percent} % of \
             the {window} window is used"
        )?;
        match resets_at {
            Some(reset) => write!(f, "; it resets at {}", rfc3339(*reset)),
            None => Ok(()),
        }
    }
}

/// The phase of a request in which a timeout of the backend expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No connection within `upstream.connect_timeout`.
    Connecting,
    /// No first event within `upstream.first_event_timeout`.
    FirstEvent,
    /// No further event within `upstream.idle_timeout`.
    Streaming,
    /// No response with a document, such as an image, within the time limit of its endpoint.
    Document,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connecting => "connecting",
            Self::FirstEvent => "waiting for its first event",
            Self::Streaming => "streaming",
            Self::Document => "waiting for its response",
        })
    }
}

/// A failure that the backend reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamFailure {
    /// The class, which each API maps to a status and a type.
    pub fault: Fault,
    /// HTTP status; `None` if the failure was in the stream.
    pub status: Option<u16>,
    /// The backend's code (`context_length_exceeded`, …).
    pub code: Option<String>,
    /// The backend's message, or ours if it sent none or HTML.
    pub message: String,
    /// The request member that the backend names as the cause.
    pub param: Option<String>,
    /// The backend's request id (`x-oai-request-id`, else `x-request-id`).
    pub request_id: Option<String>,
    /// How long to wait before a retry (`retry-after`, or the delay in the message).
    pub retry_after: Option<Duration>,
    /// When an exhausted quota resets, in Unix seconds.
    pub resets_at: Option<u64>,
    /// Headers to forward to the client: the quota headers (`x-codex-…`) and similar ones.
    pub headers: HeaderMap,
}

impl UpstreamFailure {
    /// The longest wait before a retry that the proxy makes itself; longer waits are left to the client.
    pub const LONGEST_WAIT: Duration = Duration::from_secs(20);

    /// Returns how long the client should wait before it retries, if the failure is temporary and the wait is longer
    /// than [`Self::LONGEST_WAIT`].
    #[must_use]
    pub fn wait_for_client(&self) -> Option<Duration> {
        let is_temporary = matches!(self.fault, Fault::Server | Fault::Overloaded | Fault::RateLimited);
        self.retry_after.filter(|wait| is_temporary && *wait > Self::LONGEST_WAIT)
    }

    /// Whether the backend refused the request before it began to work on it: the response asks for a later retry.
    #[must_use]
    pub fn is_unaccepted(&self) -> bool {
        matches!(self.status, Some(429 | 503)) && self.retry_after.is_some()
    }
}

/// Classes of upstream failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The request is invalid.
    InvalidRequest,
    /// The input is too long for the model.
    ContextLength,
    /// A usage policy refuses the request.
    Policy,
    /// An image can't be used.
    InvalidImage,
    /// Replayed reasoning belongs to another account or model.
    EncryptedContent,
    /// The model doesn't exist, or not in this plan.
    ModelNotFound,
    /// The model requires a newer client version.
    ClientVersion,
    /// The access token was refused, even after recovery.
    Unauthorized,
    /// The access token that the client sent itself was refused.
    ClientUnauthorized,
    /// The account lacks permission.
    Permission,
    /// The body is too large for the backend.
    TooLarge,
    /// The plan's quota is used up.
    UsageLimit,
    /// Credits or a spend limit are used up.
    InsufficientQuota,
    /// Too many requests in a short time.
    RateLimited,
    /// No capacity in the flex tier.
    FlexUnavailable,
    /// The model is at capacity.
    Overloaded,
    /// No capacity because of a policy; never retried.
    PolicyCapacity,
    /// A Cloudflare challenge page.
    Challenge,
    /// A server error, or an unknown code.
    Server,
    /// The address isn't the expected backend (an empty 404, a redirect, HTML).
    WrongPlace,
}
