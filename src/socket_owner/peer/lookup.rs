//! Looks up the users of peers in the kernel's tables of TCP sockets.
//!
//! The table has a row per connection of the machine, so it is read on a blocking thread, and one pass over it
//! answers every lookup that was waiting when the pass started.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::geteuid;
use tokio::sync::{OnceCell, oneshot};
use tokio::time::timeout;

use super::super::tcp_table::{Row, rows};
use super::PeerUser;

/// Longest wait for a lookup.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of passes over the table per lookup. The kernel may skip a row while other sockets are opened or
/// closed.
const MAX_PASSES: u32 = 3;

/// Reads the table.
type Table = dyn Fn() -> Box<dyn Iterator<Item = Row>> + Send + Sync;

/// Looks up the peers of a server's connections. Clones share passes over the table.
#[derive(Clone)]
pub struct Peers(Arc<Lookups>);

/// The other end of a connection. Clones share the result of the lookup.
#[derive(Clone, Debug)]
pub struct Peer(Arc<Connection>);

#[derive(Debug)]
struct Connection {
    ends: Option<Ends>,
    uid: OnceCell<u32>,
    peers: Peers,
}

/// A connection from the peer's side: the peer's address, then ours.
type Ends = (SocketAddr, SocketAddr);

struct Lookups {
    table: Box<Table>,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<PendingLookup>,
    is_reading: bool,
}

/// A lookup that waits for a pass. There is at most one per open connection.
struct PendingLookup {
    ends: Ends,
    passes_left: u32,
    result: oneshot::Sender<Option<u32>>,
}

impl Default for Peers {
    fn default() -> Self {
        Self::with_table(|| Box::new(rows()))
    }
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Peers(..)")
    }
}

impl Peers {
    fn with_table(table: impl Fn() -> Box<dyn Iterator<Item = Row>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(Lookups { table: Box::new(table), queue: Mutex::default() }))
    }

    /// Returns the other end of a connection. `local` is `None` if the connection is already broken.
    #[must_use]
    pub fn peer(&self, remote: SocketAddr, local: Option<SocketAddr>) -> Peer {
        let ends = local.map(|local| (canonical(remote), canonical(local)));
        Peer(Arc::new(Connection { ends, uid: OnceCell::new(), peers: self.clone() }))
    }

    /// Returns the user that owns the peer's socket.
    async fn uid(&self, ends: Ends) -> Option<u32> {
        let (result, received) = oneshot::channel();
        if self.0.add(PendingLookup { ends, passes_left: MAX_PASSES, result }) {
            let lookups = Arc::clone(&self.0);
            tokio::task::spawn_blocking(move || lookups.read());
        }
        timeout(TIMEOUT, received).await.ok()?.ok()?
    }
}

impl Peer {
    /// Returns the user at the other end. Caches a successful lookup; a failed one is repeated by the next call.
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
    /// Queues a lookup. Returns whether the caller has to start [`Self::read`].
    fn add(&self, lookup: PendingLookup) -> bool {
        let mut queue = self.queue();
        queue.waiting.push(lookup);
        !std::mem::replace(&mut queue.is_reading, true)
    }

    /// Runs passes over the table until no lookup is waiting.
    fn read(&self) {
        while let Some(mut lookups) = self.take() {
            for row in (self.table)() {
                // Without a process the row says uid 0 for any owner.
                if row.inode == 0 {
                    continue;
                }
                if let Some(lookup) = lookups.remove(&(row.local, row.remote)) {
                    // Fails if the caller has given up.
                    let _ = lookup.result.send(Some(row.uid));
                }
                if lookups.is_empty() {
                    break;
                }
            }
            // A lookup that was given up must not replace a newer one for the same connection.
            let again = |lookup: &PendingLookup| lookup.passes_left > 0 && !lookup.result.is_closed();
            self.queue().waiting.extend(lookups.into_values().filter(again));
        }
    }

    /// Takes the waiting lookups, by connection. `None` if there are none, which ends [`Self::read`].
    fn take(&self) -> Option<HashMap<Ends, PendingLookup>> {
        let mut queue = self.queue();
        let waiting = std::mem::take(&mut queue.waiting);
        queue.is_reading = !waiting.is_empty();
        let counted = |lookup: PendingLookup| PendingLookup { passes_left: lookup.passes_left - 1, ..lookup };
        queue.is_reading.then(|| waiting.into_iter().map(|lookup| (lookup.ends, counted(lookup))).collect())
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Converts an address to the form of the table's rows: IPv4-mapped to IPv4, no scope id.
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

    /// Peers with these table rows, and the number of passes.
    fn peers(rows: &[Row]) -> (Peers, Arc<AtomicUsize>) {
        let (rows, passes) = (rows.to_vec(), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&passes);
        let table = move || -> Box<dyn Iterator<Item = Row>> {
            counted.fetch_add(1, Ordering::SeqCst);
            Box::new(rows.clone().into_iter())
        };
        (Peers::with_table(table), passes)
    }

    async fn user(peers: &Peers, port: u16) -> PeerUser {
        peers.peer(address(port), Some(address(8787))).user().await
    }

    #[tokio::test]
    async fn root_and_the_same_user_are_trusted_and_others_are_not() {
        let own = geteuid().as_raw();
        let (peers, _) = peers(&[row(1, own, 7), row(2, 0, 8), row(3, OTHER, 9)]);
        assert_eq!(user(&peers, 1).await, PeerUser::Trusted);
        assert_eq!(user(&peers, 2).await, PeerUser::Trusted);
        assert_eq!(user(&peers, 3).await, PeerUser::Other(OTHER));
    }

    #[tokio::test]
    async fn a_failed_lookup_is_repeated() {
        // The row of a socket that its process has closed, and the row of our end.
        let ours = Row { local: address(8787), remote: address(2), is_listening: false, uid: 0, inode: 3 };
        let (peers, passes) = peers(&[row(1, 0, 0), ours]);
        assert_eq!(user(&peers, 1).await, PeerUser::Unknown);
        let peer = peers.peer(address(2), Some(address(8787)));
        assert_eq!((peer.user().await, peer.user().await), (PeerUser::Unknown, PeerUser::Unknown));
        assert_eq!(passes.load(Ordering::SeqCst), 3 * MAX_PASSES as usize);
        assert_eq!(peers.peer(address(1), None).user().await, PeerUser::Unknown);
    }

    #[tokio::test]
    async fn a_connection_is_looked_up_once() {
        let (peers, passes) = peers(&[row(1, OTHER, 9)]);
        let peer = peers.peer(address(1), Some(address(8787)));
        for peer in [&peer, &peer.clone(), &peer] {
            assert_eq!(peer.user().await, PeerUser::Other(OTHER));
        }
        assert_eq!(passes.load(Ordering::SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn one_pass_answers_every_waiting_lookup() {
        let (go, may_go) = mpsc::channel::<()>();
        let may_go = Mutex::new(may_go);
        let passes = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&passes);
        let peers = Peers::with_table(move || {
            if counted.fetch_add(1, Ordering::SeqCst) == 0 {
                may_go.lock().unwrap().recv().unwrap();
            }
            Box::new((1..=5000).map(|port| row(port, OTHER, u64::from(port))))
        });
        let others = async {
            // The first pass has started, for the first lookup alone.
            until(|| passes.load(Ordering::SeqCst) == 1).await;
            let start = async {
                until(|| peers.0.queue().waiting.len() == 4999).await;
                go.send(()).unwrap();
            };
            tokio::join!(join_all((2..=5000).map(|port| user(&peers, port))), start).0
        };
        let (first, others) = tokio::join!(user(&peers, 1), others);
        assert!(others.iter().chain([&first]).all(|user| *user == PeerUser::Other(OTHER)));
        assert_eq!(
            passes.load(Ordering::SeqCst),
            2,
            "the second pass answers all lookups that waited during the first"
        );
    }

    async fn until(condition: impl Fn() -> bool) {
        while !condition() {
            tokio::task::yield_now().await;
        }
    }

    /// Connects to a listener and returns both streams and the peer.
    fn accepted(listener: &TcpListener, to: SocketAddr) -> io::Result<(TcpStream, TcpStream, Peer)> {
        let client = TcpStream::connect(to)?;
        let (server, remote) = listener.accept()?;
        let peer = Peers::default().peer(remote, server.local_addr().ok());
        Ok((client, server, peer))
    }

    #[tokio::test]
    async fn a_real_connection_of_this_process_is_trusted_for_ipv4_and_ipv6() {
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
