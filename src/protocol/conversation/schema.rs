//! JSON schemas of tools: the form that the backend takes.
//!
//! A schema is touched only where the backend would refuse it.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::protocol::envelope::Envelope;

/// A value that we made up ourselves, as raw JSON.
#[must_use]
pub fn raw(value: &impl Serialize) -> Box<RawValue> {
    to_raw_value(value).expect("strings and raw JSON always serialise")
}

/// A schema that the backend takes: with a type, and with properties where it is an object's.
#[must_use]
pub fn parameters<'a>(untouched: &'a RawValue, mut members: Envelope<'a>) -> Cow<'a, RawValue> {
    const TYPED_BY: [&str; 5] = ["type", "anyOf", "oneOf", "allOf", "$ref"];
    let mut is_changed = members.remove("$schema");
    if !TYPED_BY.iter().any(|member| members.get(member).is_some()) {
        members.push("type", constant(r#""object""#));
        is_changed = true;
    }
    let is_object = members.get("type").is_some_and(|kind| kind.get() == r#""object""#);
    if is_object && members.get("properties").is_none() {
        members.push("properties", constant("{}"));
        is_changed = true;
    }
    if is_changed { Cow::Owned(raw(&members)) } else { Cow::Borrowed(untouched) }
}

/// A constant of ours as raw JSON.
#[must_use]
pub fn constant(json: &'static str) -> &'static RawValue {
    serde_json::from_str(json).expect("a constant of ours is JSON")
}
