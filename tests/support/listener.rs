//! Accepts the connections of the scripted backend, and simulates outages.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;

use super::{FakeUpstream, Shared, http2, serve};

/// The delay before retrying a port that another process has taken temporarily.
const AGAIN: Duration = Duration::from_millis(5);

impl FakeUpstream {
    /// Refuses connections for a while, and closes idle ones.
    pub(crate) async fn step_out(&self, span: Duration) {
        self.shared.is_away.send_replace(true);
        sleep(span).await;
        self.shared.is_away.send_replace(false);
    }
}

#[expect(clippy::disallowed_methods, reason = "one task per connection, which ends with it")]
pub(super) async fn accept(mut listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    let address = listener.local_addr().unwrap();
    let mut is_away = shared.is_away.subscribe();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = becomes(&mut is_away, true) => {
                drop(listener);
                becomes(&mut is_away, false).await;
                listener = listen_again(address).await;
                continue;
            }
        };
        let Ok((stream, _)) = accepted else { return };
        let (tls, shared) = (tls.clone(), Arc::clone(&shared));
        tokio::spawn(async move {
            // An error here means that the client has disconnected, which was counted.
            let _ = match tls {
                None => serve(stream, &shared).await,
                Some(tls) => http2::serve(tls, stream, &shared).await,
            };
        });
    }
}

/// Waits until the backend is unreachable, or reachable again.
pub(super) async fn becomes(is_away: &mut watch::Receiver<bool>, wanted: bool) {
    // The other end lives as long as the backend.
    let _ = is_away.wait_for(|is_away| *is_away == wanted).await;
}

async fn listen_again(address: std::net::SocketAddr) -> TcpListener {
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(_) => sleep(AGAIN).await,
        }
    }
}
