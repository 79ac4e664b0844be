//! How much of each account's quota is used, and what follows from it.

pub(super) mod account_check;
pub(super) mod exhausted;
pub(super) mod reserve;
pub(super) mod snapshot;
