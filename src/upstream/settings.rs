//! Settings of the backend client.

use std::path::PathBuf;
use std::time::Duration;

use super::{BodyForm, Compression, Transport};
use crate::endpoint::Endpoint;

/// Settings of the backend client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Base of the model endpoints (`upstream.url`).
    pub url: Endpoint,
    /// Transport of responses (`upstream.transport`).
    pub transport: Transport,
    /// Value of the `version` header and of `client_version` (`upstream.client_version`). `None` for the newest known
    /// version. The setting `auto` is resolved with [`super::version::installed`].
    pub client_version: Option<String>,
    /// Header `originator` (`upstream.originator`). Not sent if empty.
    pub originator: String,
    /// Header `user-agent`, suffix included.
    pub user_agent: String,
    /// Form of request bodies (`upstream.body`).
    pub body: BodyForm,
    /// Compression of request bodies (`upstream.compression`).
    pub compression: Compression,
    /// Time limit for the first event of an attempt (`upstream.first_event_timeout`).
    pub first_event_timeout: Duration,
    /// Time limit between two events (`upstream.idle_timeout`).
    pub idle_timeout: Duration,
    /// Attempts after the first (`upstream.max_retries`).
    pub max_retries: u32,
    /// Total delay that retries may add to one request (`upstream.retry_budget`).
    pub retry_budget: Duration,
    /// How often a request probes an exhausted limit (`timing.quota_probe`).
    pub quota_probe: Duration,
    /// Delay after `response.created` at which a response is committed (`timing.commit_after`).
    pub commit_after: Duration,
    /// Size limit of an event (`limits.event`).
    pub event_limit_bytes: usize,
    /// File that keeps the catalog between runs.
    pub catalogue_file: Option<PathBuf>,
}
