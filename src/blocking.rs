//! Runs long computations without delaying other requests.
//!
//! One thread serves all connections (see `cli`). Parsing a long body takes milliseconds, which would delay every other
//! response. While such work runs, the other tasks run on another thread.

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;

/// Work on fewer bytes takes less time than moving the other tasks to another thread.
pub const LONG_BYTES: usize = 128 * 1024;

/// Runs work whose duration is proportional to `bytes`. From [`LONG_BYTES`] on, the other tasks of this thread move to
/// another one first; on a single-threaded runtime, they wait.
pub fn off_thread<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    let is_long = bytes >= LONG_BYTES;
    let has_other_threads =
        || Handle::try_current().is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread);
    if is_long && has_other_threads() { block_in_place(work) } else { work() }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use tokio_util::task::TaskTracker;

    use super::{LONG_BYTES, off_thread};

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn other_tasks_run_during_long_work() {
        let tasks = TaskTracker::new();
        let other = tasks.clone();
        let working = tasks.spawn(async move {
            let (done, is_done) = channel();
            other.spawn(async move { done.send(()).unwrap() });
            // On the serving thread, this would be a deadlock.
            off_thread(LONG_BYTES, || is_done.recv_timeout(Duration::from_secs(20)))
        });
        working.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_single_threaded_runtime_runs_the_work_in_place() {
        assert_eq!(off_thread(LONG_BYTES, || 7), 7);
    }
}
