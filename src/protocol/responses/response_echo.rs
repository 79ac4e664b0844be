//! Rewrites the backend's response object with the client's values.
//!
//! The backend's object repeats what the proxy sent: the backend's name of the model, the translated instructions,
//! `store: false`. The client receives its own values instead, and every member that the public API always has, because
//! client libraries are generated from its schema.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::request::ECHOED_MEMBERS;
use crate::protocol::json::quoted;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::json::splice::Splice;
use crate::protocol::stored_refs::ResponseIdentity;

/// The parts of the response that depend on the request.
#[derive(Clone, Debug)]
pub struct ResponseEcho {
    /// Members whose value differs from the backend's: the name, and the JSON of the client's value or of a constant.
    own: Vec<(&'static str, Cow<'static, str>)>,
    /// How events are forwarded.
    pub forwarding: Forwarding,
    /// Whether a stream that didn't fail ends with `[DONE]`.
    pub done_marker: bool,
    /// Whether the response runs in the background.
    pub is_background: bool,
    /// The id and creation time of the response, if they aren't the backend's.
    identity: Option<ResponseIdentity>,
}

/// How events are forwarded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Forwarding {
    /// In the form of the public API: filtered, with missing members, numbers and the client's values.
    #[default]
    Normalized,
    /// Unchanged, for a stream of a Codex client.
    Verbatim,
}

/// Members with the same value in every response, because the backend lacks the feature.
const CONSTANT_MEMBERS: [(&str, &str); 7] = [
    ("background", "false"),
    ("frequency_penalty", "0.0"),
    ("max_output_tokens", "null"),
    ("max_tool_calls", "null"),
    ("presence_penalty", "0.0"),
    ("top_logprobs", "0"),
    ("truncation", r#""disabled""#),
];

/// Members with the backend's value that the public API always has, besides `usage`.
const UPSTREAM_MEMBERS: [&str; 13] = [
    "id",
    "object",
    "created_at",
    "completed_at",
    "status",
    "error",
    "incomplete_details",
    "output",
    "reasoning",
    "service_tier",
    "temperature",
    "text",
    "top_p",
];

/// Approximate length of the members that the backend leaves out.
const ADDED_BYTES: usize = 1024;

impl ResponseEcho {
    /// Creates the echo for a request with this model name and these members (`sent`).
    #[must_use]
    pub fn new(model: &str, sent: &[(&'static str, &RawValue)], forwarding: Forwarding, done_marker: bool) -> Self {
        let echoed = ECHOED_MEMBERS.into_iter().map(|name| {
            let own = sent.iter().rev().find(|(sent, _)| *sent == name);
            (name, own.map_or(Cow::Borrowed(default_value(name)), |(_, raw)| Cow::Owned(raw.get().to_owned())))
        });
        let constant = CONSTANT_MEMBERS.into_iter().map(|(name, value)| (name, Cow::Borrowed(value)));
        let model = std::iter::once(("model", Cow::Owned(quoted(model))));
        let own = model.chain(echoed).chain(constant).collect();
        Self { own, forwarding, done_marker, is_background: false, identity: None }
    }

    /// The same, for a response that runs in the background: with `background`, and with this id and creation time
    /// instead of the backend's.
    #[must_use]
    pub fn in_background(mut self, identity: Option<ResponseIdentity>) -> Self {
        self.is_background = true;
        self.set("background", "true".to_owned());
        if let Some(ResponseIdentity { id, created_at }) = &identity {
            self.set("id", quoted(id));
            self.set("created_at", created_at.to_string());
        }
        self.identity = identity;
        self
    }

    /// The same, for a response that belongs to a conversation.
    #[must_use]
    pub fn in_conversation(mut self, id: &str) -> Self {
        self.set("conversation", format!(r#"{{"id":{}}}"#, quoted(id)));
        self
    }

    /// The id of the response, if it isn't the backend's.
    pub(super) fn own_id(&self) -> Option<&str> {
        self.identity.as_ref().map(|identity| identity.id.as_str())
    }

    fn set(&mut self, name: &'static str, value: String) {
        self.own.retain(|(own, _)| *own != name);
        self.own.push((name, Cow::Owned(value)));
    }

    /// Returns the JSON of a response object for the client. The members in `set` take precedence.
    pub(super) fn restore(&self, response: &RawObject<'_>, set: &[(&str, &str)]) -> String {
        // Sized up front, to avoid copies while growing.
        let bytes: usize = response.members().iter().map(|(name, value)| name.len() + value.text().len() + 4).sum();
        let mut object = String::with_capacity(bytes + ADDED_BYTES);
        object.push('{');
        for (name, value) in response.members() {
            put(&mut object, name, &self.value(name, Some(value.text()), set));
        }
        let own = self.own.iter().map(|(name, _)| *name).filter(|name| !UPSTREAM_MEMBERS.contains(name));
        for name in UPSTREAM_MEMBERS.into_iter().chain(own).chain(["usage"]) {
            if response.get(name).is_none() {
                put(&mut object, name, &self.value(name, None, set));
            }
        }
        object.push('}');
        object
    }

    fn value<'v>(&'v self, name: &str, upstream: Option<&'v str>, set: &[(&str, &'v str)]) -> Cow<'v, str> {
        if let Some((_, value)) = set.iter().find(|(set, _)| *set == name) {
            return Cow::Borrowed(value);
        }
        if let Some((_, value)) = self.own.iter().find(|(own, _)| *own == name) {
            return Cow::Borrowed(value);
        }
        let upstream = upstream.filter(|value| *value != "null");
        let is_number = |value: &&str| value.starts_with(|first: char| first == '-' || first.is_ascii_digit());
        match name {
            "usage" => upstream.map_or(Cow::Borrowed("null"), complete_usage),
            "temperature" | "top_p" => Cow::Borrowed(upstream.filter(is_number).unwrap_or("1.0")),
            "service_tier" => Cow::Borrowed(upstream.filter(|tier| *tier != r#""auto""#).unwrap_or(r#""default""#)),
            "text" => Cow::Borrowed(upstream.unwrap_or(r#"{"format":{"type":"text"}}"#)),
            "output" => Cow::Borrowed(upstream.unwrap_or("[]")),
            "object" => Cow::Borrowed(upstream.unwrap_or(r#""response""#)),
            _ => Cow::Borrowed(upstream.unwrap_or("null")),
        }
    }
}

/// The value of an echoed member that the client didn't send.
fn default_value(name: &str) -> &'static str {
    match name {
        "metadata" => "{}",
        "tools" => "[]",
        "tool_choice" => r#""auto""#,
        "parallel_tool_calls" | "store" => "true",
        _ => "null",
    }
}

/// Returns `usage` with zeros for the detailed token counts that it lacks.
fn complete_usage(usage: &str) -> Cow<'_, str> {
    const DETAILS: [(&str, &[&str]); 2] = [
        ("input_tokens_details", &["cached_tokens", "cache_write_tokens"]),
        ("output_tokens_details", &["reasoning_tokens"]),
    ];
    let Ok(members) = RawObject::parse(usage) else { return Cow::Borrowed("null") };
    let mut splice = Splice::new(usage);
    let mut missing = Vec::new();
    for (name, counts) in DETAILS {
        let zeros = |counts: &mut dyn Iterator<Item = &&str>| {
            counts.map(|count| format!(r#""{count}":0"#)).collect::<Vec<_>>().join(",")
        };
        let details = members.get(name);
        match details.map(|details| (details, RawObject::parse(details.get()))) {
            Some((details, Ok(inside))) => {
                let zeros = zeros(&mut counts.iter().filter(|count| inside.get(count).is_none()));
                if !zeros.is_empty() {
                    splice.add(details.get(), zeros);
                }
            }
            Some((other, Err(_))) => splice.replace(other, format!("{{{}}}", zeros(&mut counts.iter()))),
            None => missing.push(format!(r#""{name}":{{{}}}"#, zeros(&mut counts.iter()))),
        }
    }
    if !missing.is_empty() {
        splice.add(usage, missing.join(","));
    }
    splice.text()
}

/// Appends a member. Doesn't use a serializer, because it runs about 30 times per response object.
fn put(object: &mut String, name: &str, value: &str) {
    if object.len() > 1 {
        object.push(',');
    }
    if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        for piece in ["\"", name, "\":", value] {
            object.push_str(piece);
        }
    } else {
        object.push_str(&quoted(name));
        object.push(':');
        object.push_str(value);
    }
}
