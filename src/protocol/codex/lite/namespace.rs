//! Removes from responses the namespace that the lite form adds to requests.
//!
//! Call items name the namespace of their tool. If it's the one that the proxy added, the member is removed; the other
//! bytes of the event and the client's own namespaces stay. This happens before an event is decoded, so no reply and no
//! stored response contains the name.

use std::borrow::Cow;

use crate::protocol::json::raw_object::RawObject;
use crate::protocol::json::splice::Splice;

const MEMBER: &str = "namespace";

/// The name of the namespace that the proxy added to a request, for its functions and custom tools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolNamespace(Cow<'static, str>);

impl ToolNamespace {
    pub(super) fn new(name: Cow<'static, str>) -> Self {
        Self(name)
    }

    /// Returns the `data` of an event without the namespace; `None` if it doesn't contain it.
    #[must_use]
    pub fn strip_from(&self, data: &str) -> Option<String> {
        // Most events are text deltas: don't parse them.
        memchr::memmem::find(data.as_bytes(), MEMBER.as_bytes())?;
        let event = data.trim();
        let members = RawObject::parse(event).ok()?;
        let mut splice = Splice::new(event);
        self.remove_from(event, &members, &mut splice);
        let response = members.get("response").and_then(|response| RawObject::parse(response.get()).ok());
        let output = response.map(|response| response.list("output")).unwrap_or_default();
        for item in members.get("item").into_iter().chain(output) {
            if let Ok(members) = RawObject::parse(item.get()) {
                self.remove_from(item.get(), &members, &mut splice);
            }
        }
        (!splice.is_unchanged()).then(|| splice.text().into_owned())
    }

    fn remove_from<'d>(&self, object: &'d str, members: &RawObject<'d>, splice: &mut Splice<'d>) {
        if members.text(MEMBER).is_some_and(|name| name == self.0) {
            splice.remove(object, members, MEMBER);
        }
    }
}
