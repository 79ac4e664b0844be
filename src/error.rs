//! What can go wrong with a client's request, in no dialect.
//!
//! Each dialect gives [`ProxyError`] a face (status, headers, body) in one exhaustive match; the
//! upstream's own words, code, parameter and request id are kept in [`UpstreamFailure`], so that
//! no dialect has to flatten them.

mod class;
mod refusal;

use std::fmt;
use std::time::{Duration, SystemTime};

use http::HeaderMap;

use crate::excerpt::{MESSAGE_CHARACTERS, excerpt};
use crate::token_source::AuthError;
pub use refusal::{Reason, Refusal};

/// Anything that ends a client's request without a whole answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProxyError {
    /// The request is wrong or asks for what can't be had.
    #[error("{}", .0.message)]
    Refused(Refusal),
    /// The body, after decoding, is longer than `limits.body`.
    #[error("the request body is larger than {limit_bytes} bytes (setting limits.body)")]
    BodyTooLarge {
        /// The limit in force.
        limit_bytes: u64,
    },
    /// The body could not be read to its end, or its content encoding is broken.
    #[error("the request body can't be read: {reason}")]
    BodyUnreadable {
        /// What was wrong with it.
        reason: String,
    },
    /// The client sent its body, or a WebSocket message, too slowly.
    #[error(
        "the request body arrived too slowly: nothing for {} s, or less than 1 KiB per second (setting \
         timing.body_read)",
        .limit.as_secs_f32()
    )]
    BodyTooSlow {
        /// The longest silence that is allowed.
        limit: Duration,
    },
    /// Other requests hold the memory that this one needs.
    #[error("the requests under way use all of the {limit_bytes} bytes of memory (setting limits.memory)")]
    MemoryFull {
        /// The limit in force.
        limit_bytes: usize,
        /// When it makes sense to come back.
        retry_after: Duration,
    },
    /// What the body holds would take more than all of the memory.
    #[error("the request body has more JSON values than fit in {limit_bytes} bytes of memory (setting limits.memory)")]
    TooManyValues {
        /// The limit in force.
        limit_bytes: usize,
    },
    /// A content encoding that we don't undo.
    #[error("content encoding '{encoding}' is not supported; use gzip, deflate, br, zstd or none")]
    UnsupportedEncoding {
        /// As the client named it.
        encoding: String,
    },
    /// A POST whose content type is not JSON, as a web page could send it without asking.
    #[error(
        "send the request with the header 'content-type: application/json' (curl: -H 'content-type: application/json')"
    )]
    UnsupportedMediaType,
    /// No such path.
    #[error("unknown path: {method} {path}")]
    UnknownPath {
        /// Request method.
        method: String,
        /// Path as the client wrote it.
        path: String,
    },
    /// No such path, below a prefix that stands in the client's base URL and is added by the client too.
    #[error("Unknown path {path}. Your client adds {prefix} itself: use {base} as its base URL.")]
    DoubledPath {
        /// Path as the client wrote it.
        path: String,
        /// What the client adds.
        prefix: &'static str,
        /// The base URL to set.
        base: String,
    },
    /// The path exists, the method doesn't.
    #[error("method {method} is not allowed here; use {allowed}")]
    MethodNotAllowed {
        /// Request method.
        method: String,
        /// Value of the `allow` header.
        allowed: String,
    },
    /// A service that OpenAI has and the subscription has not.
    #[error("a ChatGPT subscription has no {service}; {instead}")]
    NotOffered {
        /// What was asked for.
        service: &'static str,
        /// What to do about it.
        instead: &'static str,
    },
    /// Keys are set and the client sent none, or none of ours.
    #[error("a valid API key of this proxy is required ('Authorization: Bearer', 'x-api-key' or 'api-key')")]
    KeyRequired,
    /// The `Host` header is neither loopback nor ours nor allowed.
    #[error("host '{host}' is not served here; add it to allowed_hosts if it is yours")]
    ForeignHost {
        /// The header's value.
        host: String,
    },
    /// A web page of another origin.
    #[error("origin '{origin}' may not use this proxy; add it to allowed_origins if it is yours")]
    ForeignOrigin {
        /// The header's value.
        origin: String,
    },
    /// A program of another user of this machine, while neither keys nor a setting let others in.
    #[error(
        "{}; set a client key ([[keys]] in the config file) and send it, or set allow_other_users = true",
        match .uid {
            Some(uid) => format!("this request comes from another user of this machine (uid {uid})"),
            None => "the user that sent this request can't be determined".to_owned(),
        }
    )]
    ForeignUser {
        /// Who it is; `None`: the lookup failed.
        uid: Option<u32>,
    },
    /// A page of another site made the browser send a request that no page has to ask for.
    #[error(
        "a web page of another site may not cause this request (header sec-fetch-site); open the address yourself, \
         or call it by fetch from a page whose origin is in allowed_origins"
    )]
    CrossSite,
    /// As many requests as may be are being answered, and no place has become free in time.
    #[error(
        "{running} requests are being answered, as many as this proxy may take at a time (setting limits.concurrency)"
    )]
    Busy {
        /// The limit in force.
        running: usize,
        /// When it makes sense to come back.
        retry_after: Duration,
    },
    /// The client's key leaves the rest of a quota window to others.
    #[error("{0}")]
    Reserved(Box<Reserve>),
    /// No bearer token can be had.
    #[error(transparent)]
    Auth(AuthError),
    /// The backend answered with a failure, as a status or inside the stream.
    #[error("{}", .0.message)]
    Upstream(Box<UpstreamFailure>),
    /// The backend could not be reached.
    #[error("the ChatGPT backend can't be reached: {cause}")]
    Unreachable {
        /// DNS, TLS, proxy, refused, reset; without secrets.
        cause: String,
    },
    /// The backend was silent for longer than a limit.
    #[error("the ChatGPT backend was silent for {} s while {phase}", .limit.as_secs_f32())]
    Silent {
        /// What we were waiting for.
        phase: Phase,
        /// The limit that passed.
        limit: Duration,
    },
    /// The stream ended, or broke, before its terminal event.
    #[error("the answer was cut: the stream from the ChatGPT backend ended before response.completed{}", .cause.as_ref().map(|c| format!(" ({c})")).unwrap_or_default())]
    Truncated {
        /// The transport's error, if it was one.
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
    /// One event is longer than `limits.event`, or those that came before the answer are together.
    #[error(
        "the ChatGPT backend sent more than {limit_bytes} bytes in one event or before the answer (setting limits.event)"
    )]
    EventTooLarge {
        /// The limit in force.
        limit_bytes: usize,
    },
    /// The stream held something that can't be made sense of, and nothing later made it good.
    #[error("the ChatGPT backend's stream is damaged: {reason}")]
    Damaged {
        /// What was wrong.
        reason: String,
    },
    /// The proxy is stopping.
    #[error("the proxy is shutting down")]
    ShuttingDown,
    /// A defect of ours.
    #[error("internal error")]
    Internal,
}

impl ProxyError {
    /// The error as it may stand in a log: what the backend or the client wrote, which may repeat
    /// the prompt, is left out.
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
        // The client chose a path, a host or a member's name in it.
        excerpt(&text, MESSAGE_CHARACTERS).to_owned()
    }
}

/// A share of a quota window that is kept for others than this key.
#[derive(Clone, Debug, PartialEq)]
pub struct Reserve {
    /// Name of the client key.
    pub key: String,
    /// How much of each window the key may see used, of 100 (`keys.window_percent`).
    pub allowed_percent: u8,
    /// What the window is called: `5-hour`, `weekly`.
    pub window: String,
    /// How much of it is used.
    pub used_percent: f64,
    /// When it begins anew, where that is known.
    pub resets_at: Option<SystemTime>,
    /// When it makes sense to come back.
    pub retry_after: Duration,
}

impl fmt::Display for Reserve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, allowed_percent, window, used_percent, resets_at, .. } = self;
        write!(
            f,
            "the client key '{key}' leaves the rest of the quota to others: it is served while at most \
             {allowed_percent} % of a window is used (setting keys.window_percent), and {used_percent} % of the \
             {window} window is"
        )?;
        match resets_at {
            Some(reset) => write!(f, "; it resets at {}", humantime::format_rfc3339_seconds(*reset)),
            None => Ok(()),
        }
    }
}

/// What an upstream wait was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No connection within `upstream.connect_timeout`.
    Connecting,
    /// No first event within `upstream.first_event_timeout`.
    FirstEvent,
    /// No further event within `upstream.idle_timeout`.
    Streaming,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connecting => "connecting",
            Self::FirstEvent => "waiting for its first event",
            Self::Streaming => "streaming",
        })
    }
}

/// A failure in the backend's own words, classified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamFailure {
    /// The class, from which each dialect takes its status and type.
    pub fault: Fault,
    /// HTTP status, when the failure came as one.
    pub status: Option<u16>,
    /// The backend's code (`context_length_exceeded`, …).
    pub code: Option<String>,
    /// The backend's message, or ours where it sent none that a client may see (HTML, nothing).
    pub message: String,
    /// The backend's parameter.
    pub param: Option<String>,
    /// The backend's request id (`x-oai-request-id`, else `x-request-id`).
    pub request_id: Option<String>,
    /// How long to wait before another try (`retry-after`, or the delay in the message).
    pub retry_after: Option<Duration>,
    /// When an exhausted quota comes back, in unix seconds.
    pub resets_at: Option<u64>,
    /// Headers that the client may see: the quota headers (`x-codex-…`) and their like.
    pub headers: HeaderMap,
}

impl UpstreamFailure {
    /// The longest single wait that a client is not told about.
    pub const LONGEST_WAIT: Duration = Duration::from_secs(20);

    /// How long the client has to wait before its own next try, where the failure passes by itself and
    /// the backend wants a wait that we leave to the client.
    #[must_use]
    pub fn wait_for_client(&self) -> Option<Duration> {
        let passes = matches!(self.fault, Fault::Server | Fault::Overloaded | Fault::RateLimited);
        self.retry_after.filter(|wait| passes && *wait > Self::LONGEST_WAIT)
    }
}

/// The classes of upstream failure (statuses and codes: the tables of the error research, 2 and 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The request itself is refused.
    InvalidRequest,
    /// The conversation is too long for the model.
    ContextLength,
    /// A usage policy refuses the request.
    Policy,
    /// An image can't be used.
    InvalidImage,
    /// Replayed reasoning belongs to another account or model.
    EncryptedContent,
    /// The model does not exist, or not for this plan.
    ModelNotFound,
    /// The backend wants a newer client version for the model.
    ClientVersion,
    /// The access token is refused, also after recovery.
    Unauthorized,
    /// The account may not do this.
    Permission,
    /// The body is too large for the backend.
    TooLarge,
    /// The plan's quota is used up.
    UsageLimit,
    /// Credits or a spend limit are used up.
    InsufficientQuota,
    /// Too many requests for a moment.
    RateLimited,
    /// No capacity in the flexible tier.
    FlexUnavailable,
    /// The model is at capacity.
    Overloaded,
    /// Capacity under a policy is gone; told to the client, never retried.
    PolicyCapacity,
    /// Cloudflare stands in between.
    Challenge,
    /// Trouble on the server's side, or a code we don't know.
    Server,
    /// Something at that address is not the backend we know (an empty 404, a redirect, HTML).
    WrongPlace,
}
