//! Reads the many shapes of an upstream error into one [`UpstreamFailure`].
//!
//! A failure comes as an HTTP answer or as an event of the stream; its code, message and parameter
//! stand in a different place in each of a dozen shapes. They are kept as the backend wrote them.
//! Where it sent nothing that a client may see (a web page, an empty body), the message is ours,
//! and so is the one about a spent quota, which has to name plan and time. Reading is total: no
//! bytes make it fail, and no web page becomes a message.

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
use html_error::{Guard, is_web_page};

pub use html_error::has_markup;

pub use retry_after::{limit_family, retold, shows_room};

/// A failure that came as an HTTP answer.
#[must_use]
pub fn from_response(status: u16, headers: &HeaderMap, body: &[u8]) -> UpstreamFailure {
    let document = serde_json::from_slice(body).unwrap_or(Value::Null);
    let form = if !document.is_null() {
        Form::Json
    } else if is_web_page(headers, body) {
        Form::WebPage
    } else if body.iter().all(u8::is_ascii_whitespace) {
        Form::Empty
    } else {
        Form::Text
    };
    let guard = if form == Form::Json { Guard::of(headers, b"") } else { Guard::of(headers, body) };
    Report { status: Some(status), headers, document: &document, form, guard, text: plain_text(form, body) }.failure()
}

/// A failure inside the stream: `response.failed`, or an `error` event of either shape.
#[must_use]
pub fn from_event(data: &str) -> UpstreamFailure {
    let event: Value = serde_json::from_str(data).unwrap_or(Value::Null);
    let document = event.get("response").unwrap_or(&event);
    let status = event.get("status").or_else(|| event.get("status_code")).and_then(Value::as_u64);
    let status = status.and_then(|status| u16::try_from(status).ok());
    let headers = event.get("headers").map(event_headers).unwrap_or_default();
    Report { status, headers: &headers, document, form: Form::Json, guard: Guard::Silent, text: None }.failure()
}

/// The tokens that the backend billed for an answer which ends in this event, where it says so.
#[must_use]
pub fn usage_of_event(data: &str) -> Option<Usage> {
    let event: Value = serde_json::from_str(data).ok()?;
    Usage::deserialize(event.get("response")?.get("usage")?).ok()
}

/// The headers that an event carries: an `error`, or the metadata of a response.
#[must_use]
pub fn headers_of_event(data: &str) -> HeaderMap {
    let event: Value = serde_json::from_str(data).unwrap_or(Value::Null);
    event.get("headers").map(event_headers).unwrap_or_default()
}

/// The request member that the backend refuses as unknown, where that is what it says.
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

/// Whether the backend refuses a request because its model wants the lite form.
///
/// It has no code for that which we know of, so that its words decide: the form's name, or that of the
/// item which only this form has.
#[must_use]
pub fn wants_lite(failure: &UpstreamFailure) -> bool {
    if failure.fault != Fault::InvalidRequest || failure.status.is_some_and(|status| status != 400) {
        return false;
    }
    let said = [Some(failure.message.as_str()), failure.code.as_deref(), failure.param.as_deref()];
    let said = said.into_iter().flatten().collect::<Vec<_>>().join(" ").to_ascii_lowercase();
    let words: Vec<&str> = said.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    words.windows(2).any(|pair| match pair {
        ["responses", "lite"] => true,
        ["lite", noun] => ["body", "form", "format", "mode", "payload", "request", "requests"].contains(noun),
        _ => false,
    }) || said.contains("additional_tools")
}

/// What a failure came as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Json,
    WebPage,
    Text,
    Empty,
}

/// A failure before it is understood.
struct Report<'r> {
    status: Option<u16>,
    headers: &'r HeaderMap,
    document: &'r Value,
    form: Form,
    guard: Guard,
    text: Option<String>,
}

impl Report<'_> {
    fn failure(&self) -> UpstreamFailure {
        let hidden = self.hidden_document();
        let error = self.document.get("error").unwrap_or(&Value::Null);
        let kind = text_of(&error["type"]);
        let code = self.code(&hidden).or_else(|| kind.filter(|kind| is_code(kind)).map(str::to_owned));
        let (param, message) = (self.param(error), self.message(error, &hidden));
        let fault = fault::classify(&fault::Evidence {
            status: self.status,
            form: self.form,
            guard: self.guard,
            code: code.as_deref(),
            kind,
            param: param.as_deref(),
            message: message.as_deref().unwrap_or_default(),
        });
        let times = retry_after::Times::read(error, self.headers, message.as_deref().unwrap_or_default());
        let failure = UpstreamFailure {
            fault,
            status: self.status,
            message: self.wording(fault, message, code.as_deref(), error, &times),
            code,
            param,
            request_id: self.header("x-oai-request-id").or_else(|| self.header("x-request-id")).map(str::to_owned),
            retry_after: times.retry_after(fault),
            resets_at: times.reset.at.filter(|_| is_exhausted(fault)),
            headers: HeaderMap::new(),
        };
        with_refused_member(failure)
    }

    fn code(&self, hidden: &Value) -> Option<String> {
        let document = self.document;
        [&document["error"]["code"], &document["detail"]["code"], &document["code"], &hidden["error"]["code"]]
            .into_iter()
            .find_map(|value| {
                let text = text_of(value).filter(|text| is_word(text)).map(str::to_owned);
                text.or_else(|| value.as_u64().map(|code| code.to_string()))
            })
    }

    fn param(&self, error: &Value) -> Option<String> {
        let named = text_of(&error["param"]).or_else(|| text_of(&self.document["param"]));
        named.map(str::to_owned).or_else(|| location(self.document["detail"].get(0)?))
    }

    fn message(&self, error: &Value, hidden: &Value) -> Option<String> {
        let detail = &self.document["detail"];
        [&error["message"], error, detail, &detail["message"], &self.document["message"], &hidden["error"]["message"]]
            .into_iter()
            .find_map(text_of)
            .map(str::to_owned)
            .or_else(|| complaints(detail))
            .or_else(|| self.text.clone())
            .filter(|message| !has_markup(message))
    }

    fn wording(
        &self,
        fault: Fault,
        message: Option<String>,
        code: Option<&str>,
        error: &Value,
        times: &retry_after::Times,
    ) -> String {
        let message = message.filter(|_| self.guard == Guard::Silent).unwrap_or_else(|| self.own_words(fault, code));
        match fault {
            Fault::UsageLimit => {
                let plan = text_of(&error["plan_type"]).or_else(|| self.header("x-codex-plan-type"));
                times.usage_limit_message(plan)
            }
            _ => message,
        }
    }

    /// What we say where the backend said nothing that a client may see.
    fn own_words(&self, fault: Fault, code: Option<&str>) -> String {
        let status = self.status.map(|status| format!(" (HTTP {status})")).unwrap_or_default();
        match (fault, self.form, code) {
            (Fault::Challenge, ..) => {
                let does = match self.guard {
                    Guard::BotCheck => "takes this program for a bot",
                    Guard::Block => "blocks this network or its region",
                    Guard::Silent => "turns this network away",
                };
                format!(
                    "Cloudflare, which guards the ChatGPT backend, {does}{status}; \
                     try another network, or set upstream.proxy"
                )
            }
            (Fault::WrongPlace, ..) if self.status.is_some_and(|status| (300..400).contains(&status)) => {
                format!("the ChatGPT backend answered with a redirect{status}, which is not followed with a token")
            }
            (Fault::WrongPlace, ..) => format!("what answers at upstream.url is not the ChatGPT backend{status}"),
            (.., Some(code)) => format!("the ChatGPT backend refused the request: {code}{status}"),
            (_, Form::WebPage, None) => format!("the ChatGPT backend answered with a web page{status}"),
            (Fault::Unauthorized, ..) => format!("the ChatGPT backend refused the access token{status}"),
            _ => format!("the ChatGPT backend gave no reason for its failure{status}"),
        }
    }

    /// Some refusals carry their JSON in a header.
    fn hidden_document(&self) -> Value {
        let decoded = self.header("x-error-json").and_then(|text| BASE64.decode(text.trim()).ok());
        decoded.and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or(Value::Null)
    }

    fn header(&self, name: &str) -> Option<&str> {
        text_header(self.headers, name)
    }
}

/// A complaint about a member that has no code gets OpenAI's, and names the member.
fn with_refused_member(mut failure: UpstreamFailure) -> UpstreamFailure {
    if let Some(member) = unsupported_parameter(&failure).map(str::to_owned) {
        failure.code.get_or_insert_with(|| "unsupported_parameter".to_owned());
        failure.param.get_or_insert(member);
    }
    failure
}

/// Whether a class means that something is used up which comes back at a known time.
fn is_exhausted(fault: Fault) -> bool {
    matches!(fault, Fault::UsageLimit | Fault::InsufficientQuota)
}

/// `error.type` is a code only where it says more than its class (`usage_limit_reached`).
fn is_code(kind: &str) -> bool {
    !kind.ends_with("_error") && kind != "error" && is_word(kind)
}

/// A code goes into the log, so that it has to be one: a sentence may repeat the prompt.
fn is_word(text: &str) -> bool {
    const LONGEST_BYTES: usize = 100;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b':');
    text.len() <= LONGEST_BYTES && text.bytes().all(is_plain)
}

fn text_of(value: &Value) -> Option<&str> {
    value.as_str().map(str::trim).filter(|text| !text.is_empty())
}

fn text_header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim).filter(|text| !text.is_empty())
}

/// The entries of a schema complaint, as `loc: msg; loc: msg`.
fn complaints(detail: &Value) -> Option<String> {
    let entries = detail.as_array()?.iter().filter_map(|entry| {
        let message = text_of(&entry["msg"])?;
        Some(location(entry).map_or_else(|| message.to_owned(), |at| format!("{at}: {message}")))
    });
    let texts: Vec<String> = entries.collect();
    (!texts.is_empty()).then(|| texts.join("; "))
}

/// The place of a schema complaint, without the leading `body`.
fn location(complaint: &Value) -> Option<String> {
    let steps = complaint["loc"].as_array()?.iter().map(|step| match step {
        Value::String(name) => Cow::Borrowed(name.as_str()),
        other => Cow::Owned(other.to_string()),
    });
    let steps: Vec<_> = steps.skip_while(|step| step == "body").collect();
    (!steps.is_empty()).then(|| steps.join("."))
}

/// A short text that is no web page is a message (`upstream connect error …`).
fn plain_text(form: Form, body: &[u8]) -> Option<String> {
    const LONGEST_BYTES: usize = 500;
    // White space that only Unicode counts as such may be all there is.
    let text = std::str::from_utf8(body).ok().filter(|_| form == Form::Text)?.trim();
    let text = Some(text).filter(|text| !text.is_empty())?;
    let is_message = text.len() <= LONGEST_BYTES && !text.starts_with(['{', '[']) && !text.contains(char::is_control);
    is_message.then(|| text.to_owned())
}

/// Headers inside an event: string, number, bool, or an array of one.
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
