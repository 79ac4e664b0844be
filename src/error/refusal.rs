//! Requests that are refused here, before the backend is asked.

use super::ProxyError;

/// A request that we refuse ourselves, with the field at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What is wrong with it.
    pub reason: Reason,
    /// One sentence for a person.
    pub message: String,
    /// Path of the field in the request, such as `messages[0].content[1].type`.
    pub param: Option<String>,
    /// OpenAI's code for the kind of fault.
    pub code: Option<&'static str>,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It can't be taken: status 400.
    Wrong,
    /// It names a thing that is not here: status 404.
    Unknown,
    /// The client's key does not allow it: status 403.
    Forbidden,
}

impl Refusal {
    /// A field whose value can't be taken: code `invalid_value`.
    pub fn invalid(param: impl Into<String>, message: impl Into<String>) -> ProxyError {
        Self::coded("invalid_value", param, message)
    }

    /// A field of the wrong JSON type: code `invalid_type`.
    pub fn wrong_type(param: impl Into<String>, message: impl Into<String>) -> ProxyError {
        Self::coded("invalid_type", param, message)
    }

    /// A field that has to be there: code `missing_required_parameter`.
    pub fn missing(param: impl Into<String>) -> ProxyError {
        let param = param.into();
        let message = format!("missing required parameter: '{param}'");
        Self::coded("missing_required_parameter", param, message)
    }

    /// A value that the real service knows and this backend can't serve: code `unsupported_value`.
    pub fn unsupported_value(param: impl Into<String>, message: impl Into<String>) -> ProxyError {
        Self::coded("unsupported_value", param, message)
    }

    /// A field that this backend can't serve at all: code `unsupported_parameter`.
    pub fn unsupported_parameter(param: impl Into<String>, message: impl Into<String>) -> ProxyError {
        Self::coded("unsupported_parameter", param, message)
    }

    /// A field with a code of its own.
    pub fn coded(code: &'static str, param: impl Into<String>, message: impl Into<String>) -> ProxyError {
        let (message, param) = (message.into(), Some(param.into()));
        ProxyError::Refused(Self { reason: Reason::Wrong, message, param, code: Some(code) })
    }

    /// What the client's key does not allow; `param` is the field or header that asks for it, if one does.
    #[must_use]
    pub fn forbidden(code: &'static str, param: Option<&str>, message: impl Into<String>) -> ProxyError {
        let (message, param) = (message.into(), param.map(str::to_owned));
        ProxyError::Refused(Self { reason: Reason::Forbidden, message, param, code: Some(code) })
    }

    /// A body that is not the JSON object it has to be: no parameter, no code.
    pub fn body(message: impl Into<String>) -> ProxyError {
        ProxyError::Refused(Self { reason: Reason::Wrong, message: message.into(), param: None, code: None })
    }

    /// A thing of this kind and id that is not here; `param` is the field that named it, if one did.
    #[must_use]
    pub fn unknown(kind: &str, id: &str, param: Option<&str>) -> ProxyError {
        let message = format!("{kind} with id '{id}' not found.");
        ProxyError::Refused(Self { reason: Reason::Unknown, message, param: param.map(str::to_owned), code: None })
    }
}
