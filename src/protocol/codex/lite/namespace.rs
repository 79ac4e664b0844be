//! The way back: our namespace leaves the answer again.
//!
//! Items of calls name the namespace of their tool. Where that is ours, the member goes, and the
//! rest of the event keeps its bytes; a client's own namespaces stay. Done before anybody reads the
//! event, so that no dialect and no memory ever sees the name.

use std::borrow::Cow;

use super::{list, text};
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::json::splice::Splice;

const MEMBER: &str = "namespace";

/// The namespace that a request put its plain tools into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrapping(Cow<'static, str>);

impl Wrapping {
    pub(super) fn new(name: Cow<'static, str>) -> Self {
        Self(name)
    }

    /// The `data` of an event without our namespace; `None` where it does not name it.
    #[must_use]
    pub fn taken_off(&self, data: &str) -> Option<String> {
        // Most events are pieces of text, and need not be read.
        memchr::memmem::find(data.as_bytes(), MEMBER.as_bytes())?;
        let event = data.trim();
        let members = RawObject::parse(event).ok()?;
        let mut splice = Splice::new(event);
        self.clear(event, &members, &mut splice);
        let response = members.get("response").and_then(|response| RawObject::parse(response.get()).ok());
        let output = response.map(|response| list(&response, "output")).unwrap_or_default();
        for item in members.get("item").into_iter().chain(output) {
            if let Ok(members) = RawObject::parse(item.get()) {
                self.clear(item.get(), &members, &mut splice);
            }
        }
        (!splice.is_unchanged()).then(|| splice.text().into_owned())
    }

    fn clear<'d>(&self, object: &'d str, members: &RawObject<'d>, splice: &mut Splice<'d>) {
        if text(members, MEMBER).is_some_and(|name| name == self.0) {
            splice.remove(object, members, MEMBER);
        }
    }
}
