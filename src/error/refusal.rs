//! Invalid requests that the proxy refuses itself.

use super::ProxyError;

/// A refused request, and the member that caused it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Determines the status.
    pub reason: Reason,
    /// One sentence for the user.
    pub message: String,
    /// Path of the member in the request, such as `messages[0].content[1].type`, or a header; `None`: no single one.
    pub param: Option<String>,
    /// OpenAI's error code; `None` for a resource that doesn't exist or a body that isn't an object.
    pub code: Option<&'static str>,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is invalid: status 400.
    Invalid,
    /// It names something that doesn't exist: status 404.
    NotFound,
    /// The client key doesn't allow it: status 403.
    Forbidden,
    /// A part of it is too large: status 413.
    TooLarge,
}

impl Refusal {
    /// A member with an invalid value: code `invalid_value`.
    pub fn invalid(param: impl Into<String>, message: impl Into<String>) -> ProxyError {
        Self::coded("invalid_value", param, message)
    }

    /// A member of the wrong JSON type: code `invalid_type`.
    pub fn wrong_type(param: impl Into<String>, message: impl Into<String>) -> ProxyError {
        Self::coded("invalid_type", param, message)
    }

    /// A required member is missing: code `missing_required_parameter`.
    pub fn missing(param: impl Into<String>) -> ProxyError {
        let param = param.into();
        let message = format!("missing required parameter: '{param}'");
        Self::coded("missing_required_parameter", param, message)
    }

    /// A value that the original API supports and this backend doesn't: code `unsupported_value`.
    pub fn unsupported_value(param: impl Into<String>, message: impl Into<String>) -> ProxyError {
        Self::coded("unsupported_value", param, message)
    }

    /// A member that this backend doesn't support: code `unsupported_parameter`.
    pub fn unsupported_parameter(param: impl Into<String>, message: impl Into<String>) -> ProxyError {
        Self::coded("unsupported_parameter", param, message)
    }

    /// A refused member, with this code and status 400.
    pub fn coded(code: &'static str, param: impl Into<String>, message: impl Into<String>) -> ProxyError {
        let (message, param) = (message.into(), Some(param.into()));
        ProxyError::Refused(Self { reason: Reason::Invalid, message, param, code: Some(code) })
    }

    /// Something that the client key doesn't allow; `param` is the member or header that requests it.
    #[must_use]
    pub fn forbidden(code: &'static str, param: Option<&str>, message: impl Into<String>) -> ProxyError {
        let (message, param) = (message.into(), param.map(str::to_owned));
        ProxyError::Refused(Self { reason: Reason::Forbidden, message, param, code: Some(code) })
    }

    /// A part of the body that is too large: code `request_too_large`.
    #[must_use]
    pub fn too_large(param: &str, message: impl Into<String>) -> ProxyError {
        let (message, param) = (message.into(), Some(param.to_owned()));
        ProxyError::Refused(Self { reason: Reason::TooLarge, message, param, code: Some("request_too_large") })
    }

    /// A body that isn't the required JSON object: no parameter and no code.
    pub fn body(message: impl Into<String>) -> ProxyError {
        ProxyError::Refused(Self { reason: Reason::Invalid, message: message.into(), param: None, code: None })
    }

    /// A resource that doesn't exist; `param` is the member that names it.
    #[must_use]
    pub fn unknown(kind: &str, id: &str, param: Option<&str>) -> ProxyError {
        let message = format!("{kind} with id '{id}' not found.");
        ProxyError::Refused(Self { reason: Reason::NotFound, message, param: param.map(str::to_owned), code: None })
    }
}
