//! Parses the many forms of a backend error into one [`UpstreamFailure`].
//!
//! A failure is an HTTP response or an event of the stream. Its code, message and parameter are in different places in
//! a dozen forms. They are kept as the backend wrote them, except that this module writes the message if the quota is
//! used up, and if the backend sent none that a client may see (a web page, an empty body). Parsing never fails. Also
//! reads usage and headers from events, and recognizes rejections that the upstream client can repair.

mod fault;
mod html_error;
mod retry_after;

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize as _;
use serde_json::Value;

use super::usage::Usage;
use crate::error::{Fault, UpstreamFailure};
use html_error::{CloudflareBlock, is_web_page};

pub use html_error::{has_markup, has_media_type, is_html};

pub use retry_after::with_elapsed;

/// Parses the failure in an HTTP response.
#[must_use]
pub fn from_response(status: u16, headers: &HeaderMap, body: &[u8]) -> UpstreamFailure {
    let document = serde_json::from_slice(body).unwrap_or(Value::Null);
    let body_kind = if !document.is_null() {
        BodyKind::Json
    } else if is_web_page(headers, body) {
        BodyKind::WebPage
    } else if body.iter().all(u8::is_ascii_whitespace) {
        BodyKind::Empty
    } else {
        BodyKind::Text
    };
    let block = if body_kind == BodyKind::Json {
        CloudflareBlock::of(headers, b"")
    } else {
        CloudflareBlock::of(headers, body)
    };
    RawFailure {
        status: Some(status),
        headers,
        document: &document,
        body_kind,
        block,
        text: plain_text(body_kind, body),
    }
    .parse()
}

/// Parses the failure in a `response.failed` event, or in an `error` event with nested or flat members.
#[must_use]
pub fn from_event(data: &str) -> UpstreamFailure {
    let event: Value = serde_json::from_str(data).unwrap_or(Value::Null);
    let document = event.get("response").unwrap_or(&event);
    let status = event.get("status").or_else(|| event.get("status_code")).and_then(Value::as_u64);
    let status = status.and_then(|status| u16::try_from(status).ok());
    let headers = event.get("headers").map(event_headers).unwrap_or_default();
    RawFailure {
        status,
        headers: &headers,
        document,
        body_kind: BodyKind::Json,
        block: CloudflareBlock::None,
        text: None,
    }
    .parse()
}

/// The token usage in the JSON of a terminal event; `None` if it has none.
#[must_use]
pub fn usage_of_event(data: &str) -> Option<Usage> {
    let event: Value = serde_json::from_str(data).ok()?;
    Usage::deserialize(event.get("response")?.get("usage")?).ok()
}

/// The headers in the JSON of an `error` or `response.metadata` event.
#[must_use]
pub fn headers_of_event(data: &str) -> HeaderMap {
    let event: Value = serde_json::from_str(data).unwrap_or(Value::Null);
    event.get("headers").map(event_headers).unwrap_or_default()
}

/// The path of the request member that the backend rejected as unsupported, if the failure is about one.
#[must_use]
pub fn unsupported_parameter(failure: &UpstreamFailure) -> Option<&str> {
    if failure.fault != Fault::InvalidRequest {
        return None;
    }
    let (_, rest) = failure.message.split_once("Unsupported parameter:")?;
    let rest = rest.trim_start_matches([' ', '\'', '"', '`']);
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '[' | ']');
    let name = rest.split(|c| !is_name(c)).next().unwrap_or_default().trim_end_matches('.');
    (!name.is_empty()).then_some(name)
}

/// Whether the backend rejected a request because the model requires the lite form.
///
/// There is no known code for this, so the error's texts are searched for the format, and for the item that only this
/// format has.
#[must_use]
pub fn wants_lite(failure: &UpstreamFailure) -> bool {
    if failure.fault != Fault::InvalidRequest || failure.status.is_some_and(|status| status != 400) {
        return false;
    }
    let texts = [Some(failure.message.as_str()), failure.code.as_deref(), failure.param.as_deref()];
    let text = texts.into_iter().flatten().collect::<Vec<_>>().join(" ").to_ascii_lowercase();
    let words: Vec<&str> = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    words.windows(2).any(|pair| match pair {
        ["responses", "lite"] => true,
        ["lite", noun] => ["body", "form", "format", "mode", "payload", "request", "requests"].contains(noun),
        _ => false,
    }) || text.contains("additional_tools")
}

/// The kind of a failure's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyKind {
    Json,
    WebPage,
    Text,
    Empty,
}

/// A failure before it is classified.
struct RawFailure<'r> {
    /// `None` for an event without a status.
    status: Option<u16>,
    headers: &'r HeaderMap,
    /// The object that has `error`, or the members of a flat error. Null unless the body is JSON.
    document: &'r Value,
    body_kind: BodyKind,
    block: CloudflareBlock,
    /// A body that is a plain text message.
    text: Option<String>,
}

impl RawFailure<'_> {
    fn parse(&self) -> UpstreamFailure {
        let header_json = self.header_document();
        let error = self.document.get("error").unwrap_or(&Value::Null);
        let kind = text_of(&error["type"]);
        let code = self.code(&header_json).or_else(|| kind.filter(|kind| is_specific_type(kind)).map(str::to_owned));
        let (param, message) = (self.param(error), self.message(error, &header_json));
        let fault = fault::classify(&fault::Details {
            status: self.status,
            body_kind: self.body_kind,
            block: self.block,
            code: code.as_deref(),
            kind,
            param: param.as_deref(),
            message: message.as_deref().unwrap_or_default(),
        });
        let times = retry_after::Times::read(error, self.headers, message.as_deref().unwrap_or_default());
        let failure = UpstreamFailure {
            fault,
            status: self.status,
            message: self.final_message(fault, message, code.as_deref(), &times),
            code,
            param,
            request_id: self.header("x-oai-request-id").or_else(|| self.header("x-request-id")).map(str::to_owned),
            retry_after: times.retry_after(fault),
            resets_at: times.reset.at.filter(|_| is_exhausted(fault)),
            headers: HeaderMap::new(),
        };
        with_rejected_member(failure)
    }

    fn code(&self, header_json: &Value) -> Option<String> {
        let document = self.document;
        [&document["error"]["code"], &document["detail"]["code"], &document["code"], &header_json["error"]["code"]]
            .into_iter()
            .find_map(|value| {
                let text = text_of(value).filter(|text| is_code(text)).map(str::to_owned);
                text.or_else(|| value.as_u64().map(|code| code.to_string()))
            })
    }

    fn param(&self, error: &Value) -> Option<String> {
        let named = text_of(&error["param"]).or_else(|| text_of(&self.document["param"]));
        named.map(str::to_owned).or_else(|| location(self.document["detail"].get(0)?))
    }

    fn message(&self, error: &Value, header_json: &Value) -> Option<String> {
        let detail = &self.document["detail"];
        [
            &error["message"],
            error,
            detail,
            &detail["message"],
            &self.document["message"],
            &header_json["error"]["message"],
        ]
        .into_iter()
        .find_map(text_of)
        .map(str::to_owned)
        .or_else(|| validation_errors(detail))
        .or_else(|| self.text.clone())
        .filter(|message| !has_markup(message))
    }

    fn final_message(
        &self,
        fault: Fault,
        message: Option<String>,
        code: Option<&str>,
        times: &retry_after::Times,
    ) -> String {
        let message = message
            .filter(|_| self.block == CloudflareBlock::None)
            .unwrap_or_else(|| self.default_message(fault, code));
        match fault {
            Fault::UsageLimit => times.usage_limit_message(),
            _ => message,
        }
    }

    /// The message for a failure without one that a client may see.
    fn default_message(&self, fault: Fault, code: Option<&str>) -> String {
        let status = self.status.map(|status| format!(" (HTTP {status})")).unwrap_or_default();
        match (fault, self.body_kind, code) {
            (Fault::Challenge, ..) => {
                let reason = match self.block {
                    CloudflareBlock::BotCheck => "classified this program as a bot",
                    CloudflareBlock::Network => "blocks this network or its region",
                    CloudflareBlock::None => "refused the request",
                };
                format!(
                    "Cloudflare, which protects the ChatGPT backend, {reason}{status}; \
                     try another network, or set upstream.proxy"
                )
            }
            (Fault::WrongPlace, ..) if self.status.is_some_and(|status| (300..400).contains(&status)) => {
                format!(
                    "the ChatGPT backend answered with a redirect{status}, which is not followed because the request contains a token"
                )
            }
            (Fault::WrongPlace, ..) => format!("the server at upstream.url is not the ChatGPT backend{status}"),
            (.., Some(code)) => format!("the ChatGPT backend refused the request: {code}{status}"),
            (_, BodyKind::WebPage, None) => format!("the ChatGPT backend answered with a web page{status}"),
            (Fault::Unauthorized, ..) => format!("the ChatGPT backend refused the access token{status}"),
            _ => format!("the ChatGPT backend gave no reason for the error{status}"),
        }
    }

    /// The error document in the header `x-error-json`; null without one.
    fn header_document(&self) -> Value {
        let decoded = self.header("x-error-json").and_then(|text| BASE64.decode(text.trim()).ok());
        decoded.and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or(Value::Null)
    }

    fn header(&self, name: &str) -> Option<&str> {
        text_header(self.headers, name)
    }
}

/// Adds OpenAI's code and the parameter to a failure about an unsupported member, where the backend sent none.
fn with_rejected_member(mut failure: UpstreamFailure) -> UpstreamFailure {
    if let Some(member) = unsupported_parameter(&failure).map(str::to_owned) {
        failure.code.get_or_insert_with(|| "unsupported_parameter".to_owned());
        failure.param.get_or_insert(member);
    }
    failure
}

/// Whether a fault means that a quota is used up, so that the reset of its window is when to retry.
fn is_exhausted(fault: Fault) -> bool {
    matches!(fault, Fault::UsageLimit | Fault::InsufficientQuota)
}

/// `error.type` is a code only if it's more specific than a class (`usage_limit_reached`).
fn is_specific_type(kind: &str) -> bool {
    !kind.ends_with("_error") && kind != "error" && is_code(kind)
}

/// Whether a text has the form of a code. Codes are logged; a sentence could contain parts of the prompt.
fn is_code(text: &str) -> bool {
    const MAX_BYTES: usize = 100;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b':');
    text.len() <= MAX_BYTES && text.bytes().all(is_plain)
}

fn text_of(value: &Value) -> Option<&str> {
    value.as_str().map(str::trim).filter(|text| !text.is_empty())
}

/// Returns a header's trimmed value, unless it is empty or not visible ASCII.
#[must_use]
pub fn text_header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim).filter(|text| !text.is_empty())
}

/// The entries of `detail` in a validation error, as `loc: msg; loc: msg`.
fn validation_errors(detail: &Value) -> Option<String> {
    let entries = detail.as_array()?.iter().filter_map(|entry| {
        let message = text_of(&entry["msg"])?;
        Some(location(entry).map_or_else(|| message.to_owned(), |at| format!("{at}: {message}")))
    });
    let texts: Vec<String> = entries.collect();
    (!texts.is_empty()).then(|| texts.join("; "))
}

/// The path of the invalid member in an entry of a validation error, without the leading `body`.
fn location(entry: &Value) -> Option<String> {
    let path = entry["loc"].as_array()?.iter().map(|step| match step {
        Value::String(name) => Cow::Borrowed(name.as_str()),
        other => Cow::Owned(other.to_string()),
    });
    let path: Vec<_> = path.skip_while(|step| step == "body").collect();
    (!path.is_empty()).then(|| path.join("."))
}

/// The body as a message (`upstream connect error …`); `None` unless it is short plain text.
fn plain_text(body_kind: BodyKind, body: &[u8]) -> Option<String> {
    const MAX_BYTES: usize = 500;
    // The body may consist of white space outside ASCII.
    let text = std::str::from_utf8(body).ok().filter(|_| body_kind == BodyKind::Text)?.trim();
    let text = Some(text).filter(|text| !text.is_empty())?;
    let is_message = text.len() <= MAX_BYTES && !text.starts_with(['{', '[']) && !text.contains(char::is_control);
    is_message.then(|| text.to_owned())
}

/// The headers in an event. A value is a string, number or boolean, or an array whose first element counts.
fn event_headers(headers: &Value) -> HeaderMap {
    let pairs = headers.as_object().into_iter().flatten().filter_map(|(name, value)| {
        let value = value.get(0).unwrap_or(value);
        let text = match value {
            Value::String(text) => Cow::Borrowed(text.as_str()),
            Value::Number(_) | Value::Bool(_) => Cow::Owned(value.to_string()),
            _ => return None,
        };
        Some((HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(&text).ok()?))
    });
    pairs.collect()
}

#[cfg(test)]
mod tests;
