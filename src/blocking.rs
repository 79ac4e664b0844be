//! Moves long work off the thread that serves every connection.
//!
//! One thread serves all answers (see `cli`). Parsing a long body takes milliseconds, and without this every other
//! answer would wait for it. Another thread takes over the other tasks while the work runs.

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;

/// Below this, the work takes less time than the change of threads is worth.
pub const LONG_BYTES: usize = 128 * 1024;

/// Does work whose time grows with a number of bytes; off the serving thread if it takes long.
pub fn off_thread<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    let is_long = bytes >= LONG_BYTES;
    let has_others =
        || Handle::try_current().is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread);
    if is_long && has_others() { block_in_place(work) } else { work() }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use tokio_util::task::TaskTracker;

    use super::{LONG_BYTES, off_thread};

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn other_tasks_go_on_while_long_work_runs() {
        let tasks = TaskTracker::new();
        let other = tasks.clone();
        let working = tasks.spawn(async move {
            let (done, is_done) = channel();
            other.spawn(async move { done.send(()).unwrap() });
            // On the serving thread, this would wait for a task that waits for it.
            off_thread(LONG_BYTES, || is_done.recv_timeout(Duration::from_secs(20)))
        });
        working.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn one_thread_alone_does_the_work_itself() {
        assert_eq!(off_thread(LONG_BYTES, || 7), 7);
    }
}
