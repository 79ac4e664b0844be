//! Which user runs the program at the other end of a TCP connection within this machine.
//!
//! Linux tells it in its table of sockets. Other systems offer no way without unsafe code, and
//! every peer counts as trusted there.

#[cfg(target_os = "linux")]
mod lookup;

#[cfg(target_os = "linux")]
pub use lookup::{Peer, Peers};
#[cfg(not(target_os = "linux"))]
pub use unchecked::{Peer, Peers};

/// The user at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerUser {
    /// The user of this process, or root, or a user who can't be told here.
    Trusted,
    /// Another user of this machine, by uid.
    Other(u32),
    /// The lookup failed: the peer is on another machine, has closed its socket, or the table can't be read.
    Unknown,
}

#[cfg(not(target_os = "linux"))]
mod unchecked {
    use std::net::SocketAddr;

    use super::PeerUser;

    /// The peers of a server.
    #[derive(Clone, Copy, Debug, Default)]
    pub struct Peers;

    /// The other end of a connection.
    #[derive(Clone, Copy, Debug)]
    pub struct Peer;

    impl Peers {
        /// The other end of a connection.
        #[must_use]
        pub fn peer(&self, _remote: SocketAddr, _local: Option<SocketAddr>) -> Peer {
            Peer
        }
    }

    impl Peer {
        /// Returns [`PeerUser::Trusted`].
        #[expect(clippy::unused_async, reason = "the lookup waits where there is one")]
        pub async fn user(&self) -> PeerUser {
            PeerUser::Trusted
        }
    }
}
