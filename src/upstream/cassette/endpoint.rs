//! The endpoints that are recorded. Pure.

use super::allowlist::is_protocol_word;
use super::masking;

const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];
const RESPONSES: (&str, &str) = ("POST", "/responses");

/// Method and redacted path of a request. The path has no query.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::upstream) struct RecordedEndpoint {
    method: &'static str,
    path: String,
}

impl RecordedEndpoint {
    /// `POST /responses`.
    pub(in crate::upstream) fn responses() -> Self {
        let (method, path) = RESPONSES;
        Self { method, path: path.to_owned() }
    }

    /// The endpoint of a request. Segments that don't look like words of the protocol are masked; an unknown method
    /// counts as `POST`.
    pub(in crate::upstream) fn new(method: &str, path: &str) -> Self {
        let method = METHODS.into_iter().find(|known| *known == method).unwrap_or("POST");
        let path = path.split('?').next().unwrap_or_default();
        let segment = |segment: &str| {
            if is_protocol_word(segment) { segment.to_owned() } else { masking::mask(segment) }
        };
        Self { method, path: path.split('/').map(segment).collect::<Vec<_>>().join("/") }
    }

    pub(super) fn method(&self) -> &'static str {
        self.method
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn is_responses(&self) -> bool {
        (self.method, self.path.as_str()) == RESPONSES
    }
}

#[cfg(test)]
mod tests {
    use super::RecordedEndpoint;

    #[test]
    fn private_parts_of_a_path_are_masked() {
        let endpoint = RecordedEndpoint::new("GET", "/alpha/notes/v2/Bob-1234567/thread_hint?q=private");
        assert_eq!((endpoint.method(), endpoint.path()), ("GET", "/alpha/notes/v2/xxx-1111111/thread_hint"));
        assert!(RecordedEndpoint::new("POST", "/responses").is_responses());
        assert!(!endpoint.is_responses());
    }
}
