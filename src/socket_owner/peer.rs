//! Finds the user at the other end of a TCP connection within this machine.

#[cfg(target_os = "linux")]
mod lookup;

#[cfg(target_os = "linux")]
pub use lookup::{Peer, Peers};
#[cfg(not(target_os = "linux"))]
pub use unchecked::{Peer, Peers};

/// The user at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerUser {
    /// The user of this process, or root. On systems other than Linux, any user.
    Trusted,
    /// Another user of this machine, by uid.
    Other(u32),
    /// The lookup failed: the peer is on another machine or has closed its socket, or the table can't be read.
    Unknown,
}

#[cfg(not(target_os = "linux"))]
mod unchecked {
    use std::net::SocketAddr;

    use super::PeerUser;

    /// Looks up the peers of a server.
    #[derive(Clone, Copy, Debug, Default)]
    pub struct Peers;

    /// The other end of a connection.
    #[derive(Clone, Copy, Debug)]
    pub struct Peer;

    impl Peers {
        /// Returns the other end of a connection.
        #[must_use]
        pub fn peer(&self, _remote: SocketAddr, _local: Option<SocketAddr>) -> Peer {
            Peer
        }
    }

    impl Peer {
        /// Returns [`PeerUser::Trusted`].
        #[expect(clippy::unused_async, reason = "same signature as on Linux")]
        pub async fn user(&self) -> PeerUser {
            PeerUser::Trusted
        }
    }
}
