//! The lookup in the kernel's table of sockets.
//!
//! The table is as long as the machine has connections, so it is read on a blocking thread, and one
//! reading serves every lookup that was waiting when it began.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::geteuid;
use tokio::sync::{OnceCell, oneshot};
use tokio::time::timeout;

use super::PeerUser;
use crate::net::tcp_table::{Row, rows};

/// Longest wait for a lookup.
const LIMIT: Duration = Duration::from_secs(5);
/// How often the table is read for one lookup. The kernel may skip a row while others come and go.
const READINGS: u32 = 3;

/// Reads the whole table.
type Table = dyn Fn() -> Box<dyn Iterator<Item = Row>> + Send + Sync;

/// The peers of a server. Clones share their readings of the table.
#[derive(Clone)]
pub struct Peers(Arc<Lookups>);

/// The other end of a connection. Clones share what is known of it.
#[derive(Clone, Debug)]
pub struct Peer(Arc<Connection>);

#[derive(Debug)]
struct Connection {
    ends: Option<Ends>,
    uid: OnceCell<u32>,
    peers: Peers,
}

/// A connection as the peer sees it: its own address, then ours.
type Ends = (SocketAddr, SocketAddr);

struct Lookups {
    table: Box<Table>,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Wanted>,
    is_reading: bool,
}

/// A lookup that waits. There is at most one per open connection.
struct Wanted {
    ends: Ends,
    readings_left: u32,
    answer: oneshot::Sender<Option<u32>>,
}

impl Default for Peers {
    fn default() -> Self {
        Self::reading(|| Box::new(rows()))
    }
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Peers(..)")
    }
}

impl Peers {
    fn reading(table: impl Fn() -> Box<dyn Iterator<Item = Row>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(Lookups { table: Box::new(table), queue: Mutex::default() }))
    }

    /// The other end of a connection; `local` is `None` if the connection has broken already.
    #[must_use]
    pub fn peer(&self, remote: SocketAddr, local: Option<SocketAddr>) -> Peer {
        let ends = local.map(|local| (canonical(remote), canonical(local)));
        Peer(Arc::new(Connection { ends, uid: OnceCell::new(), peers: self.clone() }))
    }

    /// The owner of the socket at one end of a connection.
    async fn uid(&self, ends: Ends) -> Option<u32> {
        let (answer, answered) = oneshot::channel();
        if self.0.add(Wanted { ends, readings_left: READINGS, answer }) {
            let lookups = Arc::clone(&self.0);
            tokio::task::spawn_blocking(move || lookups.read());
        }
        timeout(LIMIT, answered).await.ok()?.ok()?
    }
}

impl Peer {
    /// Returns the user at the other end, looked up at the first call. A failed lookup is repeated by the next call.
    pub async fn user(&self) -> PeerUser {
        let Connection { ends, uid, peers } = &*self.0;
        let lookup = async || peers.uid((*ends).ok_or(())?).await.ok_or(());
        match uid.get_or_try_init(lookup).await {
            Ok(uid) if *uid == 0 || *uid == geteuid().as_raw() => PeerUser::Trusted,
            Ok(uid) => PeerUser::Other(*uid),
            Err(()) => PeerUser::Unknown,
        }
    }
}

impl Lookups {
    /// Queues a lookup. Returns whether a reading has to be started for it.
    fn add(&self, wanted: Wanted) -> bool {
        let mut queue = self.queue();
        queue.waiting.push(wanted);
        !std::mem::replace(&mut queue.is_reading, true)
    }

    /// Answers lookups until none waits.
    fn read(&self) {
        while let Some(mut wanted) = self.take() {
            for row in (self.table)() {
                // A socket that no process holds has lost its owner, and reads as root's.
                if row.inode == 0 {
                    continue;
                }
                if let Some(wanted) = wanted.remove(&(row.local, row.remote)) {
                    // A caller that has given up needs no answer.
                    let _ = wanted.answer.send(Some(row.uid));
                }
                if wanted.is_empty() {
                    break;
                }
            }
            // One that was given up must not take the place of a newer one for its connection.
            let again = |wanted: &Wanted| wanted.readings_left > 0 && !wanted.answer.is_closed();
            self.queue().waiting.extend(wanted.into_values().filter(again));
        }
    }

    /// What waits, by connection. `None` ends the reading.
    fn take(&self) -> Option<HashMap<Ends, Wanted>> {
        let mut queue = self.queue();
        let waiting = std::mem::take(&mut queue.waiting);
        queue.is_reading = !waiting.is_empty();
        let counted = |wanted: Wanted| Wanted { readings_left: wanted.readings_left - 1, ..wanted };
        queue.is_reading.then(|| waiting.into_iter().map(|wanted| (wanted.ends, counted(wanted))).collect())
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An address as the table's rows have it: IPv4 as such, and no scope.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::{Ipv6Addr, TcpListener, TcpStream};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use futures_util::future::join_all;

    use super::*;

    const OTHER: u32 = 4_000_000_000;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn row(port: u16, uid: u32, inode: u64) -> Row {
        Row { local: address(port), remote: address(8787), is_listening: false, uid, inode }
    }

    /// Peers by these rows, and how often they were read.
    fn peers(rows: &[Row]) -> (Peers, Arc<AtomicUsize>) {
        let (rows, readings) = (rows.to_vec(), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&readings);
        let table = move || -> Box<dyn Iterator<Item = Row>> {
            counted.fetch_add(1, Ordering::SeqCst);
            Box::new(rows.clone().into_iter())
        };
        (Peers::reading(table), readings)
    }

    async fn user(peers: &Peers, port: u16) -> PeerUser {
        peers.peer(address(port), Some(address(8787))).user().await
    }

    #[tokio::test]
    async fn root_and_the_own_user_are_trusted_and_others_are_not() {
        let own = geteuid().as_raw();
        let (peers, _) = peers(&[row(1, own, 7), row(2, 0, 8), row(3, OTHER, 9)]);
        assert_eq!(user(&peers, 1).await, PeerUser::Trusted);
        assert_eq!(user(&peers, 2).await, PeerUser::Trusted);
        assert_eq!(user(&peers, 3).await, PeerUser::Other(OTHER));
    }

    #[tokio::test]
    async fn what_can_not_be_found_is_unknown_and_looked_up_again() {
        // The row of a socket that its process has closed, and a row of our own end.
        let ours = Row { local: address(8787), remote: address(2), is_listening: false, uid: 0, inode: 3 };
        let (peers, readings) = peers(&[row(1, 0, 0), ours]);
        assert_eq!(user(&peers, 1).await, PeerUser::Unknown);
        let peer = peers.peer(address(2), Some(address(8787)));
        assert_eq!((peer.user().await, peer.user().await), (PeerUser::Unknown, PeerUser::Unknown));
        assert_eq!(readings.load(Ordering::SeqCst), 3 * READINGS as usize);
        assert_eq!(peers.peer(address(1), None).user().await, PeerUser::Unknown);
    }

    #[tokio::test]
    async fn a_connection_is_looked_up_once() {
        let (peers, readings) = peers(&[row(1, OTHER, 9)]);
        let peer = peers.peer(address(1), Some(address(8787)));
        for peer in [&peer, &peer.clone(), &peer] {
            assert_eq!(peer.user().await, PeerUser::Other(OTHER));
        }
        assert_eq!(readings.load(Ordering::SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn one_reading_serves_every_lookup_that_waits() {
        let (go, may_go) = mpsc::channel::<()>();
        let may_go = Mutex::new(may_go);
        let readings = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&readings);
        let peers = Peers::reading(move || {
            if counted.fetch_add(1, Ordering::SeqCst) == 0 {
                may_go.lock().unwrap().recv().unwrap();
            }
            Box::new((1..=5000).map(|port| row(port, OTHER, u64::from(port))))
        });
        let others = async {
            // The first reading has begun, for the first lookup alone.
            until(|| readings.load(Ordering::SeqCst) == 1).await;
            let start = async {
                until(|| peers.0.queue().waiting.len() == 4999).await;
                go.send(()).unwrap();
            };
            tokio::join!(join_all((2..=5000).map(|port| user(&peers, port))), start).0
        };
        let (first, others) = tokio::join!(user(&peers, 1), others);
        assert!(others.iter().chain([&first]).all(|user| *user == PeerUser::Other(OTHER)));
        assert_eq!(readings.load(Ordering::SeqCst), 2, "the second reading serves all that waited during the first");
    }

    async fn until(happens: impl Fn() -> bool) {
        while !happens() {
            tokio::task::yield_now().await;
        }
    }

    /// Connects to a listener; the peer as the listener sees it.
    fn accepted(listener: &TcpListener, to: SocketAddr) -> io::Result<(TcpStream, TcpStream, Peer)> {
        let client = TcpStream::connect(to)?;
        let (server, remote) = listener.accept()?;
        let peer = Peers::default().peer(remote, server.local_addr().ok());
        Ok((client, server, peer))
    }

    #[tokio::test]
    async fn a_real_connection_of_this_process_is_trusted_in_every_family() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (client, _server, peer) = accepted(&listener, listener.local_addr().unwrap()).unwrap();
        assert_eq!(peer.user().await, PeerUser::Trusted);
        drop(client);
        // Some machines have no IPv6.
        let Ok(listener) = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)) else { return };
        let port = listener.local_addr().unwrap().port();
        for host in ["[::1]", "127.0.0.1", "[::ffff:127.0.0.1]"] {
            let Ok(ends) = accepted(&listener, format!("{host}:{port}").parse().unwrap()) else { continue };
            assert_eq!(ends.2.user().await, PeerUser::Trusted, "{host}");
        }
    }

    #[tokio::test]
    async fn a_peer_that_has_closed_its_socket_is_unknown() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (client, _server, peer) = accepted(&listener, listener.local_addr().unwrap()).unwrap();
        drop(client);
        assert_eq!(peer.user().await, PeerUser::Unknown);
    }
}
