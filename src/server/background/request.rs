//! The request of a response in the background, in a form that can be stored and sent later.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::header::USER_AGENT;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use serde::{Deserialize, Serialize};

use crate::error::ProxyError;
use crate::history::{ResponseOwner, RunRecord};
use crate::protocol::Dialect as _;
use crate::protocol::codex::lite;
use crate::protocol::responses::Responses;
use crate::protocol::upstream_input::cache::SESSION_HEADERS;
use crate::server::internal_request::attach_owner;
use crate::server::paths::PathModel;
use crate::server::request_log::RequestId;
use crate::server::{LiveSettings, account};

/// A request that waits or runs.
#[derive(Clone, Debug)]
pub(super) struct QueuedRequest {
    pub(super) head: StoredRequest,
    pub(super) body: Bytes,
}

/// The parts of a request that its response depends on, without its body. Has no credentials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredRequest {
    headers: Vec<(String, String)>,
    /// The model that an Azure-style path names.
    path_model: Option<String>,
}

impl StoredRequest {
    pub(super) fn of(parts: &Parts) -> Self {
        let lite = lite::HEADER;
        let own = [account::HEADER, "originator", USER_AGENT.as_str(), lite.as_str()];
        let forwarded = Responses::forwarded_headers(&parts.headers).unwrap_or_default();
        let forwarded = forwarded.keys().map(HeaderName::as_str);
        let names: BTreeSet<&str> = own.into_iter().chain(SESSION_HEADERS).chain(forwarded).collect();
        let value = |name: &str| Some((name.to_owned(), parts.headers.get(name)?.to_str().ok()?.to_owned()));
        Self {
            headers: names.into_iter().filter_map(value).collect(),
            path_model: PathModel::of(parts).map(str::to_owned),
        }
    }

    /// The record of a run with this request.
    pub(super) fn record(&self, owner: ResponseOwner, id: String, body: Bytes, object: String) -> RunRecord {
        let request = serde_json::to_string(self).expect("strings always serialize");
        RunRecord { owner, id, request, body, object }
    }

    /// The request of a stored run; `None` if it can't be read.
    pub(super) fn of_record(record: &RunRecord) -> Option<Self> {
        serde_json::from_str(&record.request).ok()
    }

    /// The head of the request, without what its key determines.
    pub(super) fn head(&self, id: &RequestId) -> Parts {
        let header = |(name, value): &(String, String)| {
            Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?))
        };
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.headers = self.headers.iter().filter_map(header).collect::<HeaderMap>();
        parts.extensions.insert(id.clone());
        if let Some(model) = &self.path_model {
            parts.extensions.insert(PathModel(model.clone()));
        }
        parts
    }

    /// The head of the request, by the settings in force.
    ///
    /// # Errors
    /// If the client key no longer exists.
    pub(super) fn authorized(
        &self,
        id: &RequestId,
        owner: &ResponseOwner,
        live: &LiveSettings,
    ) -> Result<Parts, ProxyError> {
        let mut parts = self.head(id);
        attach_owner(live, owner, &mut parts)?;
        Ok(parts)
    }
}
