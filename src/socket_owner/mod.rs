//! Finds the owner of a TCP socket on this machine: the user at the other end of a connection, and the
//! program that listens on a port.
//!
//! Implemented for Linux, from `/proc`. Other systems offer no way without unsafe code: peers count as trusted
//! there, and listeners are unknown.

mod peer;
mod port;
#[cfg(target_os = "linux")]
mod tcp_table;

pub use peer::{Peer, PeerUser, Peers};
pub use port::listener_on;
