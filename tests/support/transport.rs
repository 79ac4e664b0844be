//! Runs the tests again over the other transport: the test program runs itself with a variable set.

use std::process::Command;

const VARIABLE: &str = "TEST_TRANSPORT";

/// The transport of these tests, if it isn't the default.
#[expect(clippy::disallowed_methods, reason = "this program sets the variable for itself")]
pub(crate) fn chosen() -> Option<String> {
    std::env::var(VARIABLE).ok()
}

/// Runs all tests of this program over the WebSocket transport, except those with these prefixes.
pub(crate) fn repeat_over_websocket(but: &[&str]) {
    if chosen().is_some() {
        return;
    }
    let skipped = but.iter().flat_map(|name| ["--skip", name]);
    let mut command = Command::new(std::env::current_exe().unwrap());
    let output = command.args(skipped).env(VARIABLE, "websocket").env("RUST_BACKTRACE", "0").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
