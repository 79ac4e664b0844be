//! Reads the many shapes of an upstream error into one [`UpstreamFailure`].

use http::HeaderMap;

use crate::error::{Fault, UpstreamFailure};

/// A failure that came as an HTTP answer.
#[must_use]
pub fn from_response(status: u16, _headers: &HeaderMap, _body: &[u8]) -> UpstreamFailure {
    plain(Some(status))
}

/// A failure inside the stream: `response.failed`, or an `error` event of either shape.
#[must_use]
pub fn from_event(_data: &str) -> UpstreamFailure {
    plain(None)
}

fn plain(status: Option<u16>) -> UpstreamFailure {
    UpstreamFailure {
        fault: Fault::Server,
        status,
        code: None,
        message: String::new(),
        param: None,
        request_id: None,
        retry_after: None,
        resets_at: None,
    }
}
