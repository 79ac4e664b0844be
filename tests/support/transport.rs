//! The same tests over the other transport: a test program runs itself again with a variable set.

use std::process::Command;

const VARIABLE: &str = "TEST_TRANSPORT";

/// The transport that these tests are to use, where it is not the default.
#[expect(clippy::disallowed_methods, reason = "a word from this program to itself")]
pub(crate) fn chosen() -> Option<String> {
    std::env::var(VARIABLE).ok()
}

/// Runs all tests of this program over the WebSocket transport, without those whose names begin so.
pub(crate) fn repeat_over_websocket(but: &[&str]) {
    if chosen().is_some() {
        return;
    }
    let skipped = but.iter().flat_map(|name| ["--skip", name]);
    let mut command = Command::new(std::env::current_exe().unwrap());
    let output = command.args(skipped).env(VARIABLE, "websocket").env("RUST_BACKTRACE", "0").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
