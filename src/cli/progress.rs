//! A progress line on stderr for work that takes longer than a second. Only on a terminal; erased when the work is
//! done.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

/// Work that takes no longer is done without a progress line.
const DELAY: Duration = Duration::from_secs(1);
/// Moves to the start of the line and clears it.
const CLEAR_LINE: &str = "\r\u{1b}[2K";

/// Awaits `work`, and shows `message` while it takes longer than a second.
pub(super) async fn during<T>(message: &str, work: impl Future<Output = T>) -> T {
    if io::stderr().is_terminal() { during_on(&mut io::stderr(), message, work).await } else { work.await }
}

/// Like [`during`], on this terminal. Write errors are ignored: the work matters more than the message.
async fn during_on<T>(terminal: &mut impl Write, message: &str, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    if let Ok(done) = tokio::time::timeout(DELAY, &mut work).await {
        return done;
    }
    let _ = write!(terminal, "{message} …").and_then(|()| terminal.flush());
    let done = work.await;
    let _ = write!(terminal, "{CLEAR_LINE}").and_then(|()| terminal.flush());
    done
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{CLEAR_LINE, during_on};

    async fn shown(milliseconds: u64) -> String {
        let mut terminal = Vec::new();
        during_on(&mut terminal, "asking", tokio::time::sleep(Duration::from_millis(milliseconds))).await;
        String::from_utf8(terminal).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn only_work_that_takes_more_than_a_second_shows_a_line_which_is_then_erased() {
        assert_eq!(shown(900).await, "");
        assert_eq!(shown(1100).await, format!("asking …{CLEAR_LINE}"));
    }
}
