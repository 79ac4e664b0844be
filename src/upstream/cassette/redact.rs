//! An exchange without what is private in it.
//!
//! Works from an allow-list: member names and words of the protocol stay, numbers that count or
//! time something stay, everything else is replaced. Ids and names are replaced by the same
//! placeholder wherever they stand, in the order in which they are met, so that the same exchange
//! always gives the same text. The order, the number and the kind of members never change. Pure.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;

use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

use super::allowlist::{self, Fate};
use super::masking::{self, Inside};

/// How ids begin; it tells what they name.
const BEGINNINGS: &[&str] =
    &["resp_", "msg_", "rs_", "fc_", "fco_", "call_", "ctc_", "ws_", "ig_", "cmp_", "item_", "rc_", "ci_", "mcp_"];
/// Events whose pieces are pieces of JSON.
const ARGUMENTS: &str = "response.function_call_arguments.delta";

/// What has been replaced by what, for one exchange.
#[derive(Debug, Default)]
pub(super) struct Redaction {
    names: HashMap<String, String>,
    /// Arguments that come in pieces, by their item.
    streams: HashMap<String, Inside>,
}

/// Where a value stands.
#[derive(Clone, Copy)]
struct Spot<'s> {
    member: &'s str,
    parent: &'s str,
    /// Whether a person has named the members here.
    is_free: bool,
}

/// The members of an object as they are written.
struct Object<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

#[derive(Deserialize)]
struct Piece<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    item_id: Option<Cow<'a, str>>,
    #[serde(default)]
    output_index: Option<u64>,
    #[serde(borrow)]
    delta: &'a RawValue,
}

impl Redaction {
    /// A JSON document; what is none is replaced by its shape.
    pub(super) fn document(&mut self, text: &str) -> Redacted {
        let Ok(raw) = serde_json::from_str::<&RawValue>(text) else { return Redacted::Text(masking::of_text(text)) };
        let mut out = String::with_capacity(text.len());
        self.value(raw.get(), Spot { member: "", parent: "", is_free: false }, &mut out);
        // Fails only on JSON that goes deeper than can be read.
        RawValue::from_string(out).map_or_else(|_| Redacted::Text(masking::of_text(text)), Redacted::Json)
    }

    /// The data of an event.
    pub(super) fn event(&mut self, text: &str) -> Redacted {
        let piece = serde_json::from_str::<Piece<'_>>(text).ok().filter(|piece| piece.kind == ARGUMENTS);
        let members = serde_json::from_str::<Object<'_>>(text).ok();
        let (Some(piece), Some(Object(members))) = (piece, members) else { return self.document(text) };
        let Some(literal) = inside(piece.delta.get()) else { return self.document(text) };
        let stream = piece.item_id.map_or_else(|| format!("{:?}", piece.output_index), Cow::into_owned);
        let shaped = self.streams.entry(stream).or_default().of_literal(literal);
        let mut out = String::with_capacity(text.len());
        let spot = Spot { member: "", parent: "", is_free: false };
        self.members(&members, spot, &mut out, |member| (member == "delta").then(|| format!("\"{shaped}\"")));
        RawValue::from_string(out).map_or_else(|_| Redacted::Text(masking::of_text(text)), Redacted::Json)
    }

    fn value(&mut self, raw: &str, spot: Spot<'_>, out: &mut String) {
        match raw.as_bytes().first() {
            Some(b'{') => match serde_json::from_str::<Object<'_>>(raw) {
                Ok(Object(members)) => self.members(&members, spot, out, |_| None),
                Err(_) => out.push_str("{}"),
            },
            Some(b'[') => {
                let values: Vec<&RawValue> = serde_json::from_str(raw).unwrap_or_default();
                out.push('[');
                for (index, value) in values.iter().enumerate() {
                    out.push_str(if index == 0 { "" } else { "," });
                    self.value(value.get(), spot, out);
                }
                out.push(']');
            }
            Some(b'"') => self.text(raw, spot, out),
            Some(b't' | b'f' | b'n') => out.push_str(raw),
            _ if !spot.is_free && allowlist::is_counted(spot.member) => out.push_str(raw),
            _ => out.push_str(&Inside::default().of_literal(raw)),
        }
    }

    fn members(
        &mut self,
        members: &[(Cow<'_, str>, &RawValue)],
        spot: Spot<'_>,
        out: &mut String,
        instead: impl Fn(&str) -> Option<String>,
    ) {
        out.push('{');
        for (index, (member, value)) in members.iter().enumerate() {
            out.push_str(if index == 0 { "\"" } else { ",\"" });
            let is_told = if spot.is_free { allowlist::is_schema_member(member) } else { allowlist::is_member(member) };
            if is_told {
                out.push_str(member);
            } else {
                let name = self.name(member);
                out.push_str(&name);
            }
            out.push_str("\":");
            if let Some(text) = instead(member) {
                out.push_str(&text);
            } else {
                let is_free = spot.is_free || allowlist::is_free(member);
                self.value(value.get(), Spot { member, parent: spot.member, is_free }, out);
            }
        }
        out.push('}');
    }

    fn text(&mut self, raw: &str, spot: Spot<'_>, out: &mut String) {
        let fate =
            if spot.is_free { allowlist::free_fate(spot.member) } else { allowlist::fate(spot.member, spot.parent) };
        let literal = inside(raw).unwrap_or_default();
        out.push('"');
        match fate {
            Fate::Word if allowlist::is_word(literal) => out.push_str(literal),
            Fate::Name => {
                // One that can't be read is no name that stands elsewhere.
                let name = serde_json::from_str::<String>(raw).ok().map(|name| self.name(&name));
                out.push_str(&name.unwrap_or_else(|| masking::of_literal(literal)));
            }
            Fate::Json => out.push_str(&Inside::default().of_literal(literal)),
            Fate::Word | Fate::Shape => out.push_str(&masking::of_literal(literal)),
        }
        out.push('"');
    }

    /// The placeholder of a name: as long as it, where there is room for its number.
    fn name(&mut self, name: &str) -> String {
        if name.is_empty() {
            return String::new();
        }
        let number = self.names.len() + 1;
        let placeholder = self.names.entry(name.to_owned()).or_insert_with(|| {
            let beginning = BEGINNINGS.iter().find(|beginning| name.starts_with(**beginning)).copied();
            let mut placeholder = beginning.unwrap_or_default().to_owned();
            let width = name.chars().count().saturating_sub(placeholder.len());
            write!(placeholder, "{number:n>width$}").expect("a text takes any writing");
            placeholder
        });
        placeholder.clone()
    }
}

/// What may be written down.
#[derive(Debug)]
pub(super) enum Redacted {
    Json(Box<RawValue>),
    Text(String),
}

/// The inside of a string literal.
fn inside(raw: &str) -> Option<&str> {
    raw.strip_prefix('"')?.strip_suffix('"')
}

/// Reads the members in their order.
struct Members;

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members)
    }
}

impl<'de> Visitor<'de> for Members {
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
    use super::{Redacted, Redaction};

    fn redacted(texts: &[&str]) -> Vec<String> {
        let mut redaction = Redaction::default();
        let mut text = |text: &&str| match redaction.event(text) {
            Redacted::Json(json) => json.get().to_owned(),
            Redacted::Text(text) => text,
        };
        texts.iter().map(&mut text).collect()
    }

    #[test]
    fn ids_stay_the_same_thing_and_words_stay() {
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
    fn pieces_of_arguments_add_up_to_the_arguments() {
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
    fn what_a_person_has_named_is_renamed() {
        let tool = r#"{"tools":[{"type":"function","name":"my_tool","parameters":{"type":"object","properties":{"my_city":{"type":"string","const":4711}},"required":["my_city"]}}],"metadata":{"me@example.com":"1.2.3.4"}}"#;
        let text = redacted(&[tool]).remove(0);
        assert_eq!(
            text,
            r#"{"tools":[{"type":"function","name":"nnnnnn1","parameters":{"type":"object","properties":{"nnnnnn2":{"type":"string","const":1111}},"required":["nnnnnn2"]}}],"metadata":{"nnnnnnnnnnnnn3":"1.1.1.1"}}"#
        );
    }

    #[test]
    fn what_is_no_json_is_replaced_whole() {
        assert_eq!(redacted(&["{\"a\": Bob"]), ["{\"x\": xxx"]);
    }
}
