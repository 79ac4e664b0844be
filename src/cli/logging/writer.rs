//! Lines on their way to the log file.
//!
//! Whoever logs puts its line into a queue and goes on; a thread of its own writes them, in order, so
//! that no disk holds up a request. What can't be written to the file goes to standard error. The
//! queue is bounded: where the disk takes nothing for so long that it is full, further lines are
//! counted instead, and their number stands in the file.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::super::output::eprint;
use super::file::RotatingFile;

/// Of lines that wait for the disk.
const QUEUE_BYTES: usize = 16 * 1024 * 1024;

/// How long the end waits for the disk.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Where lines are put; clones share the queue.
#[derive(Clone, Debug)]
pub(super) struct Writer(Arc<Queue>);

#[derive(Debug, Default)]
struct Queue {
    state: Mutex<State>,
    has_work: Condvar,
    is_done: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: VecDeque<Vec<u8>>,
    size_bytes: usize,
    lost: u64,
    is_moved: bool,
    is_writing: bool,
}

/// What is to be written next.
struct Work {
    lines: VecDeque<Vec<u8>>,
    lost: u64,
    is_moved: bool,
}

impl Writer {
    /// Begins to write to this file.
    #[expect(clippy::disallowed_methods, reason = "writing blocks, and goes on until the process ends")]
    pub(super) fn start(file: RotatingFile) -> Self {
        let queue = Arc::new(Queue::default());
        let writer = Self(Arc::clone(&queue));
        std::thread::spawn(move || write_all(&queue, file));
        writer
    }

    /// The file may have been moved: the next line goes to the one that has its name then.
    pub(super) fn reopen(&self) {
        self.0.lock().is_moved = true;
    }

    /// Waits until everything is written, but not forever.
    pub(super) fn finish(&self) {
        let is_busy = |state: &mut State| state.is_writing || !state.lines.is_empty();
        let state = self.0.lock();
        drop(self.0.is_done.wait_timeout_while(state, LAST_WORDS, is_busy));
    }

    fn put(&self, line: Vec<u8>) {
        let mut state = self.0.lock();
        if state.size_bytes.saturating_add(line.len()) > QUEUE_BYTES {
            state.lost += 1;
        } else {
            state.size_bytes += line.len();
            state.lines.push_back(line);
            self.0.has_work.notify_one();
        }
    }
}

/// One call is one line.
impl io::Write for Writer {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.put(line.to_vec());
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

    /// Waits for lines.
    fn next(&self) -> Work {
        let mut state = self.lock();
        state.is_writing = false;
        if state.lines.is_empty() {
            self.is_done.notify_all();
        }
        let is_idle = |state: &mut State| state.lines.is_empty();
        let mut state = self.has_work.wait_while(state, is_idle).unwrap_or_else(PoisonError::into_inner);
        state.is_writing = true;
        state.size_bytes = 0;
        Work {
            lines: std::mem::take(&mut state.lines),
            lost: std::mem::take(&mut state.lost),
            is_moved: std::mem::take(&mut state.is_moved),
        }
    }
}

/// Until the process ends.
fn write_all(queue: &Queue, mut file: RotatingFile) {
    let mut trouble = FailureNotice::default();
    loop {
        let work = queue.next();
        if work.is_moved
            && let Err(error) = file.reopen()
        {
            eprint(&format!("warning: the log file can't be opened again ({error}); it goes on where it was"));
        }
        for line in &work.lines {
            trouble.mind(file.write(line), line);
        }
        if work.lost > 0 {
            let notice = format!("{} lines are missing here: the disk was too slow for them\n", work.lost);
            trouble.mind(file.write(notice.as_bytes()), notice.as_bytes());
        }
    }
}

/// What is wrong is told once, not with every line.
#[derive(Default)]
struct FailureNotice {
    is_told: bool,
}

impl FailureNotice {
    fn mind(&mut self, (written, rotation): (io::Result<()>, Option<io::Error>), line: &[u8]) {
        if let Some(error) = rotation {
            eprint(&format!("warning: the next log file can't be begun ({error}); the last one goes on"));
        }
        match written {
            Ok(()) => self.is_told = false,
            Err(error) => {
                if !std::mem::replace(&mut self.is_told, true) {
                    eprint(&format!("warning: the log file can't be written ({error}); what it misses stands here"));
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
    use super::{QUEUE_BYTES, Writer};
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
    fn what_is_too_much_is_counted() {
        let writer = Writer(std::sync::Arc::default());
        for _ in 0..3 {
            writer.put(vec![b'x'; QUEUE_BYTES / 2]);
        }
        let work = writer.0.next();
        assert_eq!((work.lines.len(), work.lost), (2, 1));
    }
}
