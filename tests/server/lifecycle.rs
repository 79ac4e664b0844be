//! Starting, finding and stopping the daemon.

use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::fake::{FakeUpstream, Gate};
use crate::proxy::{Launch, TestProxy};
use crate::wire::{Ask, Open};
use crate::{BEGUN, Bench, COMPLETED, SECOND, begun, chat, signed_in, streaming};

/// A daemon in the middle of a stream, which the gate lets finish.
async fn in_a_stream(drain: &str) -> (Bench, Open, Gate) {
    let bench = Bench::with(|launch| launch.setting("timing.drain", drain)).await;
    let gate = Gate::default();
    bench.upstream.on("/responses", begun(&BEGUN).gate(&gate).event(COMPLETED).end());
    let mut open = Ask::chat(&streaming()).open(&bench.proxy).await;
    open.until("Grüße").await;
    (bench, open, gate)
}

/// Waits until the daemon's address no longer accepts connections.
async fn closes(proxy: &TestProxy) {
    let refused = async {
        while TcpStream::connect(proxy.authority()).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(5 * SECOND, refused).await.expect("new connections are refused");
}

#[tokio::test]
async fn a_stream_may_finish_after_a_stop_signal() {
    for signal in ["TERM", "INT"] {
        let (mut bench, open, gate) = in_a_stream("10s").await;
        bench.proxy.signal(signal);
        closes(&bench.proxy).await;
        gate.open();
        let answer = open.rest().await;
        assert_eq!(answer.frames().last().unwrap(), "[DONE]", "{}", answer.text());
        assert_eq!(bench.proxy.ended().await, Some(0), "{signal}");
    }
}

#[tokio::test]
async fn a_stream_that_outlasts_the_drain_is_cut_with_an_error() {
    for signal in ["TERM", "INT"] {
        let (mut bench, open, _gate) = in_a_stream("100ms").await;
        bench.proxy.signal(signal);
        let answer = open.rest().await;
        assert_eq!(answer.frames().last().unwrap()["error"]["code"], "shutting_down", "{}", answer.text());
        assert!(!answer.text().contains("[DONE]"));
        assert!(bench.upstream.hung_up(1, 5 * SECOND).await);
        assert_eq!(bench.proxy.ended().await, Some(0), "{signal}");
    }
}

#[tokio::test]
async fn each_api_reports_a_truncated_stream() {
    let messages =
        json!({"model": "gpt-5.5", "max_tokens": 9, "stream": true, "messages": [{"role": "user", "content": "hi"}]});
    let responses = json!({"model": "gpt-5.5", "stream": true, "input": "hi"});
    let reported = [
        ("/v1/messages", messages, "event: error\ndata: {\"type\":\"error\"", "message_stop"),
        ("/v1/responses", responses, "\"type\":\"response.failed\"", "response.completed"),
        ("/api/chat", chat(), "{\"error\":\"the proxy is shutting down\"}\n", "\"done\":true"),
    ];
    for (target, request, sign, whole) in reported {
        let mut bench = Bench::with(|launch| launch.setting("timing.drain", "100ms")).await;
        bench.upstream.on("/responses", begun(&BEGUN).hang());
        let mut open = Ask::post(target, &request).open(&bench.proxy).await;
        open.until("Grüße").await;
        bench.proxy.signal("TERM");
        let answer = open.rest().await;
        assert!(answer.text().contains(sign) && !answer.text().contains(whole), "{}", answer.text());
        assert_eq!(bench.proxy.ended().await, Some(0));
    }
}

#[tokio::test]
async fn a_second_signal_exits_at_once() {
    for (first, second) in [("TERM", "INT"), ("INT", "TERM")] {
        let (mut bench, open, _gate) = in_a_stream("1h").await;
        bench.proxy.signal(first);
        closes(&bench.proxy).await;
        // No setting is read again after that.
        bench.proxy.signal("HUP");
        bench.proxy.signal(second);
        assert_eq!(timeout(5 * SECOND, bench.proxy.ended()).await, Ok(Some(0)));
        drop(open);
    }
}

#[tokio::test]
async fn a_document_that_outlasts_the_drain_is_a_503() {
    let mut bench = Bench::with(|launch| launch.setting("timing.drain", "100ms")).await;
    bench.upstream.on("/responses", begun(&BEGUN).hang());
    let sent = Ask::chat(&chat()).fire(&bench.proxy).await;
    bench.upstream.received("/responses", 1).await;
    bench.proxy.signal("TERM");
    let answer = sent.open().await.rest().await;
    assert_eq!((answer.status, answer.error()["code"].as_str()), (503, Some("shutting_down")));
    assert_eq!(bench.proxy.ended().await, Some(0));
}

#[tokio::test]
async fn idle_connections_do_not_delay_shutdown() {
    let mut bench = Bench::with(|launch| launch.setting("timing.drain", "1h")).await;
    let _never_used = TcpStream::connect(bench.proxy.authority()).await.unwrap();
    assert_eq!(Ask::get("/health").send(&bench.proxy).await.status, 200);
    bench.proxy.signal("TERM");
    assert_eq!(timeout(5 * SECOND, bench.proxy.ended()).await, Ok(Some(0)));
}

#[tokio::test]
async fn a_signal_right_after_the_ready_line_shuts_down_cleanly() {
    for _ in 0..3 {
        let launch = Launch::new().setting("auth.url", "http://127.0.0.1:9");
        let mut proxy = launch.start();
        assert!(launch.home().join("run.json").exists());
        proxy.signal("TERM");
        assert_eq!(proxy.ended().await, Some(0));
        assert!(!launch.home().join("run.json").exists());
    }
}

#[tokio::test]
async fn a_port_in_use_gives_one_line_that_names_it() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let Ok(holder) = TcpListener::bind(address).await else { continue };
        let port = holder.local_addr().unwrap().port();
        let output = Launch::new().command(&["serve", "--port", &port.to_string()]).run();
        assert_eq!((output.status.code(), &*output.stdout), (Some(1), &b""[..]));
        let reported = String::from_utf8(output.stderr).unwrap();
        assert_eq!(reported.lines().count(), 1, "{reported}");
        assert!(reported.contains(&format!("Port {port}")) && reported.contains("--port"), "{reported}");
    }
}

#[tokio::test]
async fn the_running_daemon_is_found() {
    let upstream = FakeUpstream::start().await;
    let launch = signed_in(&upstream);
    let status = || -> Value { serde_json::from_slice(&launch.command(&["status", "--json"]).run().stdout).unwrap() };
    assert_eq!(status()["daemon"], Value::Null);
    let mut proxy = launch.start();
    let port: u16 = proxy.authority().rsplit(':').next().unwrap().parse().unwrap();
    assert_ne!(port, 0);
    let reported = tokio::task::spawn_blocking({
        let launch = launch.clone();
        move || launch.command(&["status", "--json"]).run()
    });
    let reported = reported.await.unwrap();
    assert_eq!(reported.status.code(), Some(0));
    let reported: Value = serde_json::from_slice(&reported.stdout).unwrap();
    assert_eq!(reported["daemon"]["base_url"], format!("http://{}/v1", proxy.authority()));
    assert_eq!(reported["daemon"]["pid"], proxy.process_id());
    assert_eq!(reported["signed_in"], true);
    proxy.signal("KILL");
    assert_eq!(proxy.ended().await, None);
    assert!(launch.home().join("run.json").exists());
    assert_eq!(status()["daemon"], Value::Null, "a leftover run file is ignored");
}
