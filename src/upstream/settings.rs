//! Settings of the backend client, resolved from configuration and flags.

use std::path::PathBuf;
use std::time::Duration;

use super::{AcceptEncoding, BodyForm, Compression, Transport};
use crate::endpoint::Endpoint;

/// Settings of the backend client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Base URL of `/responses` and `/models` (`upstream.url`).
    pub url: Endpoint,
    /// Transport of responses (`upstream.transport`).
    pub transport: Transport,
    /// Value of the header `version` and the query parameter `client_version` (`upstream.client_version`). `None` for
    /// [`super::version::NEWEST_KNOWN`]. The caller resolves the setting `auto` with [`super::version::installed`].
    pub client_version: Option<String>,
    /// Header `originator` (`upstream.originator`). Not sent if empty.
    pub originator: String,
    /// Header `user-agent`, suffix included.
    pub user_agent: String,
    /// Form of request bodies (`upstream.body`).
    pub body: BodyForm,
    /// Compression of request bodies (`upstream.compression`).
    pub compression: Compression,
    /// Encodings that responses may have (`upstream.accept_encoding`).
    pub accept_encoding: AcceptEncoding,
    /// Time limit from sending a request to the first event of its response (`upstream.first_event_timeout`).
    pub first_event_timeout: Duration,
    /// Time limit between two events (`upstream.idle_timeout`).
    pub idle_timeout: Duration,
    /// Maximum number of retries of one request (`upstream.max_retries`).
    pub max_retries: u32,
    /// Total delay that retries may add to one request (`upstream.retry_budget`).
    pub retry_budget: Duration,
    /// Interval at which one request is let through to probe an exhausted limit (`timing.quota_probe`).
    pub quota_probe: Duration,
    /// Time after `response.created` at which a response without output is committed (`timing.commit_after`).
    pub commit_after: Duration,
    /// Size limit of an event, and of all events before the commit point together (`limits.event`).
    pub event_limit_bytes: usize,
    /// Maximum memory for everything that is buffered for requests (`limits.memory`), here and in the server.
    pub memory_limit_bytes: usize,
    /// Model of the images that the proxy generates for the model (`images.model`).
    pub image_model: String,
    /// Time limit for the head of the response with such an image (`images.timeout`).
    pub image_timeout: Duration,
    /// File that keeps the catalog between runs. `None` keeps it in memory only.
    pub catalogue_file: Option<PathBuf>,
}
