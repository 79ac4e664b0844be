//! A function call of APIs that send it when it is complete, because its arguments are a JSON object.

use super::{CallEnd, CallStart};
use crate::protocol::json::compact;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::json::string::RawText;

/// A call whose arguments are still arriving.
#[derive(Debug, Default)]
pub struct PendingCall {
    id: String,
    name: String,
    /// Escaped.
    arguments: String,
}

/// A call with all its arguments.
#[derive(Debug)]
pub struct CompleteCall {
    /// The call's id.
    pub id: String,
    /// The function, as the client named it.
    pub name: String,
    /// A JSON object without white space.
    pub arguments: String,
}

impl PendingCall {
    /// A call without arguments so far.
    #[must_use]
    pub fn new(call: &CallStart<'_>) -> Self {
        Self { id: call.id.to_owned(), name: call.name.to_owned(), arguments: String::new() }
    }

    /// Adds a piece of the arguments, escaped.
    pub fn push(&mut self, text: &str) {
        self.arguments.push_str(text);
    }

    /// Returns the complete call, and leaves an empty one. `None` if the arguments were cut off.
    pub fn end(&mut self, end: CallEnd) -> Option<CompleteCall> {
        let Self { id, name, arguments } = std::mem::take(self);
        let arguments = RawText::from_escaped(&arguments).decode();
        let arguments = match (RawObject::parse(&arguments), end) {
            (Ok(_), _) => compact(&arguments).into_owned(),
            (Err(_), CallEnd::Truncated) => return None,
            // Models sometimes write arguments that are not JSON, but a reply has to be JSON.
            (Err(_), CallEnd::Complete) => "{}".to_owned(),
        };
        Some(CompleteCall { id, name, arguments })
    }
}
