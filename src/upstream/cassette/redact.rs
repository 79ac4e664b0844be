//! Removes private data from the bodies and events of requests and responses.
//!
//! Values that the [`allowlist`] doesn't keep are masked, except ids and names: each gets a placeholder, numbered by
//! first occurrence, so that equal input gives equal output. Order, number and types of members don't change. Pure.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;

use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

use super::RecordedEndpoint;
use super::allowlist::{self, Redaction, Scope};
use super::masking::{self, JsonMasker};

/// Prefixes of ids; placeholders have the same.
const ID_PREFIXES: &[&str] =
    &["resp_", "msg_", "rs_", "fc_", "fco_", "call_", "ctc_", "ws_", "ig_", "cmp_", "item_", "rc_", "ci_", "mcp_"];
/// Type of the event whose deltas are pieces of JSON.
const ARGUMENTS_DELTA: &str = "response.function_call_arguments.delta";

/// Redacts one request and its response. Equal ids and names in it get equal placeholders.
#[derive(Debug)]
pub(super) struct Redactor {
    scope: Scope,
    /// By the id or name that each replaces.
    placeholders: HashMap<String, String>,
    /// The state of each masked call's arguments, by item id or output index.
    arguments: HashMap<String, JsonMasker>,
}

/// Position of a value: its member, and the member whose value contains that; empty at the top level.
#[derive(Clone, Copy)]
struct ValuePosition<'p> {
    member: &'p str,
    parent: &'p str,
    /// Whether users choose the member names here.
    is_user_named: bool,
}

/// The members of an object, in order.
struct Object<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

/// A delta event.
#[derive(Deserialize)]
struct DeltaEvent<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    item_id: Option<Cow<'a, str>>,
    #[serde(default)]
    output_index: Option<u64>,
    #[serde(borrow)]
    delta: &'a RawValue,
}

impl Redactor {
    pub(super) fn new(endpoint: &RecordedEndpoint) -> Self {
        let scope = if endpoint.is_responses() { Scope::Responses } else { Scope::SideCall };
        Self { scope, placeholders: HashMap::new(), arguments: HashMap::new() }
    }

    /// Redacts a body. Text that isn't JSON is masked.
    pub(super) fn document(&mut self, text: &str) -> Redacted {
        let Ok(raw) = serde_json::from_str::<&RawValue>(text) else { return Redacted::Text(masking::mask(text)) };
        let mut out = String::with_capacity(text.len());
        self.value(raw.get(), ValuePosition { member: "", parent: "", is_user_named: false }, &mut out);
        // Fails only if the JSON is nested too deeply.
        RawValue::from_string(out).map_or_else(|_| Redacted::Text(masking::mask(text)), Redacted::Json)
    }

    /// Redacts the data of an event. Argument deltas of the same item are masked as pieces of one JSON text.
    pub(super) fn event(&mut self, text: &str) -> Redacted {
        let delta = serde_json::from_str::<DeltaEvent<'_>>(text).ok().filter(|delta| delta.kind == ARGUMENTS_DELTA);
        let members = serde_json::from_str::<Object<'_>>(text).ok();
        let (Some(delta), Some(Object(members))) = (delta, members) else { return self.document(text) };
        let Some(literal) = literal_content(delta.delta.get()) else { return self.document(text) };
        let item = delta.item_id.map_or_else(|| format!("{:?}", delta.output_index), Cow::into_owned);
        let masked = self.arguments.entry(item).or_default().mask_literal(literal);
        let mut out = String::with_capacity(text.len());
        let position = ValuePosition { member: "", parent: "", is_user_named: false };
        self.members(&members, position, &mut out, |member| (member == "delta").then(|| format!("\"{masked}\"")));
        RawValue::from_string(out).map_or_else(|_| Redacted::Text(masking::mask(text)), Redacted::Json)
    }

    fn value(&mut self, raw: &str, position: ValuePosition<'_>, out: &mut String) {
        match raw.as_bytes().first() {
            Some(b'{') => match serde_json::from_str::<Object<'_>>(raw) {
                Ok(Object(members)) => self.members(&members, position, out, |_| None),
                Err(_) => out.push_str("{}"),
            },
            Some(b'[') => {
                let values: Vec<&RawValue> = serde_json::from_str(raw).unwrap_or_default();
                out.push('[');
                for (index, value) in values.iter().enumerate() {
                    out.push_str(if index == 0 { "" } else { "," });
                    self.value(value.get(), position, out);
                }
                out.push(']');
            }
            Some(b'"') => self.string(raw, position, out),
            Some(b't' | b'f' | b'n') => out.push_str(raw),
            _ if !position.is_user_named && allowlist::is_kept_number(position.member) => out.push_str(raw),
            _ => out.push_str(&JsonMasker::default().mask_literal(raw)),
        }
    }

    /// Redacts an object. `replacement` returns the JSON of members that are redacted otherwise.
    fn members(
        &mut self,
        members: &[(Cow<'_, str>, &RawValue)],
        position: ValuePosition<'_>,
        out: &mut String,
        replacement: impl Fn(&str) -> Option<String>,
    ) {
        out.push('{');
        for (index, (member, value)) in members.iter().enumerate() {
            out.push_str(if index == 0 { "\"" } else { ",\"" });
            let is_kept = if position.is_user_named {
                allowlist::is_schema_keyword(member)
            } else {
                allowlist::is_kept_name(member)
            };
            if is_kept {
                out.push_str(member);
            } else {
                let placeholder = self.placeholder(member);
                out.push_str(&placeholder);
            }
            out.push_str("\":");
            if let Some(text) = replacement(member) {
                out.push_str(&text);
            } else {
                let is_user_named = position.is_user_named || allowlist::has_user_named_members(member);
                self.value(value.get(), ValuePosition { member, parent: position.member, is_user_named }, out);
            }
        }
        out.push('}');
    }

    fn string(&mut self, raw: &str, position: ValuePosition<'_>, out: &mut String) {
        let redaction = if position.is_user_named {
            allowlist::user_named_redaction(position.member)
        } else {
            allowlist::redaction(self.scope, position.member, position.parent)
        };
        let literal = literal_content(raw).unwrap_or_default();
        out.push('"');
        let file_prefix = allowlist::file_prefix(self.scope, position.member, literal);
        match redaction {
            _ if file_prefix.is_some() => {
                out.push_str(file_prefix.unwrap_or_default());
                out.push_str(allowlist::FILE_PLACEHOLDER);
            }
            Redaction::KeepProtocolWord if allowlist::is_protocol_word(literal) => out.push_str(literal),
            Redaction::Placeholder if allowlist::is_proxy_tool(position.member, literal) => out.push_str(literal),
            Redaction::Placeholder => {
                let placeholder = serde_json::from_str::<String>(raw).ok().map(|name| self.placeholder(&name));
                out.push_str(&placeholder.unwrap_or_else(|| masking::mask_literal(literal)));
            }
            Redaction::MaskJson => out.push_str(&JsonMasker::default().mask_literal(literal)),
            Redaction::KeepProtocolWord | Redaction::Mask => out.push_str(&masking::mask_literal(literal)),
        }
        out.push('"');
    }

    /// Returns the placeholder of an id or name. It has the same prefix, and the same length if its number fits.
    fn placeholder(&mut self, name: &str) -> String {
        if name.is_empty() {
            return String::new();
        }
        let number = self.placeholders.len() + 1;
        let placeholder = self.placeholders.entry(name.to_owned()).or_insert_with(|| {
            let prefix = ID_PREFIXES.iter().find(|prefix| name.starts_with(**prefix)).copied();
            let mut placeholder = prefix.unwrap_or_default().to_owned();
            let width = name.chars().count().saturating_sub(placeholder.len());
            write!(placeholder, "{number:n>width$}").expect("writing to a String never fails");
            placeholder
        });
        placeholder.clone()
    }
}

/// Redacted content: JSON, or masked text that isn't JSON.
#[derive(Debug)]
pub(super) enum Redacted {
    Json(Box<RawValue>),
    Text(String),
}

/// The content of a string literal: the text between the quotes.
fn literal_content(raw: &str) -> Option<&str> {
    raw.strip_prefix('"')?.strip_suffix('"')
}

struct MembersVisitor;

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Object<'de>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::{RecordedEndpoint, Redacted, Redactor};

    fn redacted(texts: &[&str]) -> Vec<String> {
        let mut redactor = Redactor::new(&RecordedEndpoint::responses());
        let mut text = |text: &&str| match redactor.event(text) {
            Redacted::Json(json) => json.get().to_owned(),
            Redacted::Text(text) => text,
        };
        texts.iter().map(&mut text).collect()
    }

    #[test]
    fn ids_keep_their_identity_and_protocol_words_are_kept() {
        let events = redacted(&[
            r#"{"type":"response.output_item.added","output_index":12,"item":{"type":"function_call","id":"fc_secret1","call_id":"call_Secret","name":"get_weather","status":"in_progress"}}"#,
            r#"{"type":"response.output_text.delta","item_id":"fc_secret1","delta":"Dear Bob\n"}"#,
        ]);
        assert_eq!(
            events,
            [
                r#"{"type":"response.output_item.added","output_index":12,"item":{"type":"function_call","id":"fc_nnnnnn1","call_id":"call_nnnnn2","name":"nnnnnnnnnn3","status":"in_progress"}}"#,
                r#"{"type":"response.output_text.delta","item_id":"fc_nnnnnn1","delta":"xxxx xxx\n"}"#,
            ]
        );
    }

    #[test]
    fn redacted_argument_deltas_add_up() {
        let piece = |delta: &str| {
            format!(r#"{{"type":"response.function_call_arguments.delta","item_id":"fc_1","delta":"{delta}"}}"#)
        };
        let pieces = [piece(r#"{\"ci"#), piece(r#"ty\": tr"#), piece("ue}")];
        let whole =
            r#"{"type":"response.function_call_arguments.done","item_id":"fc_1","arguments":"{\"city\": true}"}"#;
        let texts = [&*pieces[0], &*pieces[1], &*pieces[2], whole];
        let events = redacted(&texts);
        assert!(events[3].contains(r#""arguments":"{\"xxxx\": true}""#), "{}", events[3]);
        let delta = |text: &String| {
            serde_json::from_str::<serde_json::Value>(text).unwrap()["delta"].as_str().unwrap().to_owned()
        };
        assert_eq!(events[..3].iter().map(delta).collect::<String>(), r#"{"xxxx": true}"#);
    }

    #[test]
    fn user_chosen_names_are_replaced() {
        let tool = r#"{"tools":[{"type":"function","name":"my_tool","parameters":{"type":"object","properties":{"my_city":{"type":"string","const":4711}},"required":["my_city"]}}],"metadata":{"me@example.com":"1.2.3.4"}}"#;
        let text = redacted(&[tool]).remove(0);
        assert_eq!(
            text,
            r#"{"tools":[{"type":"function","name":"nnnnnn1","parameters":{"type":"object","properties":{"nnnnnn2":{"type":"string","const":1111}},"required":["nnnnnn2"]}}],"metadata":{"nnnnnnnnnnnnn3":"1.1.1.1"}}"#
        );
    }

    #[test]
    fn invalid_json_is_masked() {
        assert_eq!(redacted(&["{\"a\": Bob"]), ["{\"x\": xxx"]);
    }
}
