//! What is remembered between requests, since the backend keeps no conversation.
//!
//! [`Responses`] keeps answers for clients that go on by their ids. It is in memory only, bounded, and
//! forgotten when the process ends. A leaf: it knows no protocol, and what it keeps it does not read.

mod responses;

pub use responses::{Responses, Scope, Stored};
