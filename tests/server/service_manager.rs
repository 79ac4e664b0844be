//! Notifications of the service manager, over a datagram socket.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use crate::fake::FakeUpstream;
use crate::proxy::Launch;
use crate::{SECOND, signed_in};

/// The next notification, or a failure after a timeout.
async fn heard(socket: &UnixDatagram) -> String {
    let socket = socket.try_clone().unwrap();
    socket.set_read_timeout(Some(10 * SECOND)).unwrap();
    let read = tokio::task::spawn_blocking(move || {
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    });
    read.await.unwrap()
}

/// The next notification except those of the watchdog.
async fn notification(socket: &UnixDatagram) -> String {
    loop {
        let message = heard(socket).await;
        if message != "WATCHDOG=1" {
            return message;
        }
    }
}

async fn managed(name: &str) -> (FakeUpstream, Launch) {
    let upstream = FakeUpstream::start().await;
    let launch = signed_in(&upstream).variable("NOTIFY_SOCKET", name);
    (upstream, launch)
}

#[tokio::test]
async fn the_service_manager_is_notified_of_readiness_reload_and_stop() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let (_upstream, launch) = managed(path.to_str().unwrap()).await;
    let mut proxy = launch.start();
    let ready = format!("READY=1\nSTATUS=serving at http://{}/v1", proxy.authority());
    assert_eq!(notification(&socket).await, ready);
    proxy.signal("HUP");
    let reloading = notification(&socket).await;
    assert!(reloading.starts_with("RELOADING=1"), "{reloading}");
    #[cfg(target_os = "linux")]
    {
        let since: u64 = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().parse().unwrap();
        assert!(since > 0);
    }
    assert_eq!(notification(&socket).await, ready);
    proxy.signal("TERM");
    assert_eq!(notification(&socket).await, "STOPPING=1\nSTATUS=waiting for open responses");
    assert_eq!(proxy.ended().await, Some(0));
}

#[tokio::test]
async fn the_watchdog_is_notified_in_time() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let (_upstream, launch) = managed(path.to_str().unwrap()).await;
    let _proxy = launch.variable("WATCHDOG_USEC", "200000").start();
    let mut meals = 0;
    while meals < 3 {
        meals += usize::from(heard(&socket).await == "WATCHDOG=1");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_abstract_socket_is_notified() {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::SocketAddr;
    let name = format!("codex-proxy-test-{}", std::process::id());
    let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let (_upstream, launch) = managed(&format!("@{name}")).await;
    let _proxy = launch.start();
    assert!(notification(&socket).await.starts_with("READY=1\n"));
}

#[tokio::test]
async fn a_missing_service_manager_changes_nothing() {
    for name in ["/nowhere/at/all", "relative", ""] {
        let (_upstream, launch) = managed(name).await;
        let mut proxy = launch.variable("WATCHDOG_USEC", "1000").start();
        tokio::time::timeout(Duration::from_secs(5), crate::wire::Ask::get("/health").send(&proxy)).await.unwrap();
        proxy.signal("TERM");
        assert_eq!(proxy.ended().await, Some(0));
    }
}
