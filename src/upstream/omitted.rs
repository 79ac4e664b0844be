//! Members of a request that the backend refuses, and what leaving them out means. Pure.
//!
//! A member is left out of every request once it was refused; whoever would have had it is told.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::value::RawValue;

use crate::protocol::codex::Request;
use crate::protocol::codex::request::Omissions;

/// A warning for each member that this request would have had.
pub(super) fn left_out(request: &Request<'_>, omitted: &Omissions) -> Vec<String> {
    if omitted.is_empty() {
        return Vec::new();
    }
    let whole = request.encode(&Omissions::new());
    omitted.iter().filter(|member| has_member(&whole, member)).map(|member| format!("ignored:{member}")).collect()
}

/// Whether a body has this member.
pub(super) fn has_member(body: &[u8], member: &str) -> bool {
    let members: Result<HashMap<Cow<'_, str>, &RawValue>, _> = serde_json::from_slice(body);
    members.is_ok_and(|members| members.contains_key(member))
}
