//! A sign of life for what takes more than a second: one line on standard error, on a terminal
//! only, and gone when the work is done.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(1);
/// To the start of the line, and clear it.
const WIPE: &str = "\r\u{1b}[2K";

/// Does the work, and tells what it is when that takes a while.
pub(super) async fn during<T>(what: &str, work: impl Future<Output = T>) -> T {
    if io::stderr().is_terminal() { during_on(&mut io::stderr(), what, work).await } else { work.await }
}

/// What can't be shown is no reason not to do the work.
async fn during_on<T>(terminal: &mut impl Write, what: &str, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    if let Ok(done) = tokio::time::timeout(PATIENCE, &mut work).await {
        return done;
    }
    let _ = write!(terminal, "{what} …").and_then(|()| terminal.flush());
    let done = work.await;
    let _ = write!(terminal, "{WIPE}").and_then(|()| terminal.flush());
    done
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{WIPE, during_on};

    async fn shown(milliseconds: u64) -> String {
        let mut terminal = Vec::new();
        during_on(&mut terminal, "asking", tokio::time::sleep(Duration::from_millis(milliseconds))).await;
        String::from_utf8(terminal).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_takes_more_than_a_second_is_told_and_then_wiped() {
        assert_eq!(shown(900).await, "");
        assert_eq!(shown(1100).await, format!("asking …{WIPE}"));
    }
}
