//! Work that takes its time, out of the way of the answers that are under way.
//!
//! One thread carries every answer (see `cli::wait`). A long body takes milliseconds to read: as long
//! as that lasts, another thread goes on with everything else.

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;

/// What is read within a small part of a millisecond is not worth the change of threads.
const LONG_BYTES: usize = 256 * 1024;

/// Does work whose time grows with so many bytes.
pub(super) fn aside<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    let has_others = Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread;
    if bytes < LONG_BYTES || !has_others { work() } else { block_in_place(work) }
}
