//! JSON that is passed on without being decoded: raw objects, strings that keep their escapes, paths for error
//! messages, and replacement of members in place.

pub mod input_text;
pub mod path;
pub mod raw_object;
pub mod splice;
pub mod string;
pub mod surrogates;
