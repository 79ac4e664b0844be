//! Writes log lines to the log file from a separate thread, so that a slow disk never delays a request.
//!
//! Lines are queued and written in order. Lines that can't be written to the file go to stderr. The queue is bounded:
//! if the disk falls behind and the queue is full, new lines are dropped, and their number is written to the file.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::super::output::eprint;
use super::file::RotatingFile;

/// Maximum total length of the queued lines.
const MAX_QUEUE_BYTES: usize = 16 * 1024 * 1024;

/// How long [`Writer::finish`] waits for the disk.
const FINISH_TIMEOUT: Duration = Duration::from_secs(2);

/// The queue of lines; clones share it. One call of `write` is one line.
#[derive(Clone, Debug)]
pub(super) struct Writer(Arc<Queue>);

#[derive(Debug, Default)]
struct Queue {
    state: Mutex<State>,
    /// Notified when a line is added.
    has_work: Condvar,
    /// Notified when all lines are written.
    is_done: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: VecDeque<Vec<u8>>,
    /// Total length of `lines`.
    size_bytes: usize,
    /// Number of lines dropped since the last batch.
    dropped: u64,
    reopen_requested: bool,
    is_writing: bool,
}

/// What the thread writes next.
struct Batch {
    lines: VecDeque<Vec<u8>>,
    dropped: u64,
    reopen_requested: bool,
}

impl Writer {
    /// Starts the thread that writes to the file.
    #[expect(clippy::disallowed_methods, reason = "writing blocks, and the thread runs until the process ends")]
    pub(super) fn start(file: RotatingFile) -> Self {
        let queue = Arc::new(Queue::default());
        let writer = Self(Arc::clone(&queue));
        std::thread::spawn(move || write_all(&queue, file));
        writer
    }

    /// Reopens the file at its path before the next line is written.
    pub(super) fn reopen(&self) {
        self.0.lock().reopen_requested = true;
    }

    /// Waits until all lines are written, for two seconds at most.
    pub(super) fn finish(&self) {
        let is_busy = |state: &mut State| state.is_writing || !state.lines.is_empty();
        let state = self.0.lock();
        drop(self.0.is_done.wait_timeout_while(state, FINISH_TIMEOUT, is_busy));
    }

    fn push(&self, line: Vec<u8>) {
        let mut state = self.0.lock();
        if state.size_bytes.saturating_add(line.len()) > MAX_QUEUE_BYTES {
            state.dropped += 1;
        } else {
            state.size_bytes += line.len();
            state.lines.push_back(line);
            self.0.has_work.notify_one();
        }
    }
}

impl io::Write for Writer {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for lines, and removes all of them from the queue.
    fn next(&self) -> Batch {
        let mut state = self.lock();
        state.is_writing = false;
        if state.lines.is_empty() {
            self.is_done.notify_all();
        }
        let is_idle = |state: &mut State| state.lines.is_empty();
        let mut state = self.has_work.wait_while(state, is_idle).unwrap_or_else(PoisonError::into_inner);
        state.is_writing = true;
        state.size_bytes = 0;
        Batch {
            lines: std::mem::take(&mut state.lines),
            dropped: std::mem::take(&mut state.dropped),
            reopen_requested: std::mem::take(&mut state.reopen_requested),
        }
    }
}

/// Writes batches until the process ends.
fn write_all(queue: &Queue, mut file: RotatingFile) {
    let mut fallback = Fallback::default();
    loop {
        let batch = queue.next();
        if batch.reopen_requested
            && let Err(error) = file.reopen()
        {
            eprint(&format!("warning: can't reopen the log file ({error}); still writing to the old one"));
        }
        for line in &batch.lines {
            fallback.handle(file.write(line), line);
        }
        if batch.dropped > 0 {
            let notice = format!("{} lines were dropped here because the disk was too slow\n", batch.dropped);
            fallback.handle(file.write(notice.as_bytes()), notice.as_bytes());
        }
    }
}

/// Prints lines to stderr that can't be written to the file.
#[derive(Default)]
struct Fallback {
    /// Whether the current failure was reported.
    is_active: bool,
}

impl Fallback {
    fn handle(&mut self, (written, rotation): (io::Result<()>, Option<io::Error>), line: &[u8]) {
        if let Some(error) = rotation {
            eprint(&format!("warning: can't rotate the log file ({error}); still writing to the current one"));
        }
        match written {
            Ok(()) => self.is_active = false,
            Err(error) => {
                if !std::mem::replace(&mut self.is_active, true) {
                    eprint(&format!("warning: can't write the log file ({error}); the missing lines follow here"));
                }
                eprint(String::from_utf8_lossy(line).trim_end());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::super::file::RotatingFile;
    use super::{MAX_QUEUE_BYTES, Writer};
    use crate::config::LogFile;

    #[test]
    fn no_line_of_many_threads_is_lost_or_out_of_order() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.log");
        let settings = LogFile { path: path.clone(), size_bytes: 4096, count: 1000 };
        let writer = Writer::start(RotatingFile::open(settings).unwrap());
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let mut writer = writer.clone();
                scope.spawn(move || (0..2000).for_each(|line| writeln_whole(&mut writer, thread, line)));
            }
        });
        writer.finish();
        let name =
            |number: usize| if number == 0 { path.clone() } else { format!("{}.{number}", path.display()).into() };
        let last = (0..1000).find(|number| !name(*number).exists()).unwrap();
        assert!(last > 10, "{last} files");
        let text: String = (0..last).rev().map(|number| std::fs::read_to_string(name(number)).unwrap()).collect();
        for thread in 0..4 {
            let lines: Vec<_> =
                text.lines().filter_map(|line| line.strip_prefix(&format!("thread {thread} "))).collect();
            let expected: Vec<_> = (0..2000).map(|line| format!("line {line}")).collect();
            assert_eq!(lines, expected);
        }
    }

    fn writeln_whole(writer: &mut Writer, thread: u32, line: u32) {
        writer.write_all(format!("thread {thread} line {line}\n").as_bytes()).unwrap();
    }

    #[test]
    fn lines_beyond_the_limit_are_dropped_and_counted() {
        let writer = Writer(std::sync::Arc::default());
        for _ in 0..3 {
            writer.push(vec![b'x'; MAX_QUEUE_BYTES / 2]);
        }
        let batch = writer.0.next();
        assert_eq!((batch.lines.len(), batch.dropped), (2, 1));
    }
}
