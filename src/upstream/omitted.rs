//! Members of a request that the backend refuses, and what leaving them out means. Pure.
//!
//! A member is left out of every request once it was refused; whoever would have had it is told.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use serde_json::value::RawValue;

use crate::blocking::off_thread;
use crate::protocol::codex::Request;
use crate::protocol::codex::request::Omissions;

/// A warning for each member that this request would have had.
pub(super) fn left_out(request: &Request<'_>, omitted: &Omissions) -> Vec<String> {
    if omitted.is_empty() {
        return Vec::new();
    }
    let has = members(request, &Omissions::new());
    omitted.iter().filter(|member| has.contains(*member)).map(|member| format!("ignored:{member}")).collect()
}

/// Whether the body of a request has this member.
pub(super) fn has_member(request: &Request<'_>, omitted: &Omissions, member: &str) -> bool {
    members(request, omitted).contains(member)
}

/// The members of the body of a request.
fn members(request: &Request<'_>, omitted: &Omissions) -> HashSet<String> {
    off_thread(request.written_bytes(), || {
        let body = request.encode(omitted);
        let members: Result<HashMap<Cow<'_, str>, &RawValue>, _> = serde_json::from_slice(&body);
        members.unwrap_or_default().into_keys().map(Cow::into_owned).collect()
    })
}
