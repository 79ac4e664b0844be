//! JSON that is forwarded without being decoded.
//!
//! [`raw_object`] keeps the members of an object as raw text. Strings keep their escapes: [`input_text`] those of a
//! request, [`string`] those of a response. [`path`] names the member at fault in error messages, [`splice`] edits a
//! document in place, and [`surrogates`] replaces what a Rust string can't hold.

mod compact;
pub mod input_text;
pub mod path;
pub mod raw_object;
pub mod splice;
pub mod string;
pub mod surrogates;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

pub use compact::compact;

/// Serializes a value whose serialization can't fail: strings, numbers, raw JSON, and lists and structs of them.
///
/// # Panics
/// If the value's `Serialize` implementation fails or a map key is not a string.
#[must_use]
pub fn to_raw(value: &impl Serialize) -> Box<RawValue> {
    to_raw_value(value).expect("strings, numbers and raw JSON always serialize")
}

/// Wraps JSON text that the proxy wrote.
///
/// # Panics
/// If the text is not JSON.
#[must_use]
pub fn from_string(json: String) -> Box<RawValue> {
    RawValue::from_string(json).expect("the proxy writes valid JSON")
}

/// Returns a string as a JSON literal, with quotes and escapes.
///
/// # Panics
/// Never: strings always serialize.
#[must_use]
pub fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("strings always serialize")
}

/// Returns a constant as raw JSON.
///
/// # Panics
/// If the constant is not JSON.
#[must_use]
pub fn constant(json: &'static str) -> &'static RawValue {
    serde_json::from_str(json).expect("constants are valid JSON")
}
