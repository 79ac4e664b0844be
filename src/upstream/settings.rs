//! How the backend is called, as the owner has set it.

use std::path::PathBuf;
use std::time::Duration;

use super::{BodyForm, Compression, Transport};
use crate::endpoint::Endpoint;

/// How the backend is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Base of the model endpoints (`upstream.url`).
    pub url: Endpoint,
    /// How answers come (`upstream.transport`).
    pub transport: Transport,
    /// Value of the `version` header and of `client_version` (`upstream.client_version`); `None`: the
    /// newest known. For `auto`, ask [`super::version::installed`] first.
    pub client_version: Option<String>,
    /// Header `originator`; empty: not sent (`upstream.originator`).
    pub originator: String,
    /// Header `user-agent`, suffix included.
    pub user_agent: String,
    /// Which form bodies have (`upstream.body`).
    pub body: BodyForm,
    /// Whether bodies are packed (`upstream.compression`).
    pub compression: Compression,
    /// Limit for the first event of an attempt (`upstream.first_event_timeout`).
    pub first_event_timeout: Duration,
    /// Limit between two events (`upstream.idle_timeout`).
    pub idle_timeout: Duration,
    /// Further attempts after the first (`upstream.max_retries`).
    pub max_retries: u32,
    /// Waiting that retries may add to one request (`upstream.retry_budget`).
    pub retry_budget: Duration,
    /// How long nobody asks the backend about a quota that is known to be spent (`timing.quota_probe`).
    pub quota_probe: Duration,
    /// Silence after `response.created` that commits an answer (`timing.commit_after`).
    pub commit_after: Duration,
    /// Largest event (`limits.event`).
    pub event_limit_bytes: usize,
    /// Where the catalogue is kept between runs; `None`: nowhere.
    pub catalogue_file: Option<PathBuf>,
}
