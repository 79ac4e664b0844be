//! The log: to standard error, or the daemon's to a file, and of our own crate alone.
//!
//! The log lines of libraries may hold headers and bodies, so that no level lets them through. What
//! a panic says may repeat them as well: only its place is written.

mod file;
mod writer;

use std::io::{self, IsTerminal};
use std::panic::Location;
use std::path::{Path, PathBuf};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

use self::file::RotatingFile;
use self::writer::Writer;
use super::color;
use super::output::eprint;
use crate::config::{Environment, Format, Level, Log, LogFile};

/// The only crate whose lines are written.
const OURS: &str = "codex_proxy";

/// The log that was begun.
#[derive(Clone, Debug)]
pub(super) struct LogHandle {
    filter: reload::Handle<Targets, Registry>,
    file: Option<LogFileWriter>,
}

/// A log that goes to a file.
#[derive(Clone, Debug)]
struct LogFileWriter {
    path: PathBuf,
    writer: Writer,
}

impl LogHandle {
    /// Says more or less from now on.
    pub(super) fn set_level(&self, level: Level) {
        // Fails only when the log is gone, and nobody listens then.
        let _ = self.filter.reload(filter(level));
    }

    /// The file that it goes to.
    pub(super) fn file(&self) -> Option<&Path> {
        self.file.as_ref().map(|file| file.path.as_path())
    }

    /// Goes on in the file that has the name now.
    pub(super) fn reopen(&self) {
        if let Some(file) = &self.file {
            file.writer.reopen();
        }
    }

    /// Waits until everything that was said is written.
    pub(super) fn finish(&self) {
        if let Some(file) = &self.file {
            file.writer.finish();
        }
    }
}

/// Begins the log. Without settings, because they are at fault, as the defaults have it.
pub(super) fn start(log: Option<Log>, environment: &Environment) -> LogHandle {
    let log = log.unwrap_or(Log { level: Level::Info, format: Format::Text, file: None });
    let (filter, handle) = reload::Layer::new(filter(log.level));
    let file = log.file.and_then(keep);
    let lines = if let Some(file) = &file {
        let writer = file.writer.clone();
        layer(log.format, move || writer.clone(), false)
    } else {
        let is_colored = io::stderr().is_terminal() && !color::is_disabled(environment);
        layer(log.format, io::stderr, is_colored)
    };
    // Fails only where a log has begun already, which then goes on.
    let _ = tracing_subscriber::registry().with(lines.with_filter(filter)).try_init();
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(Location::to_string).unwrap_or_default();
        tracing::error!(place, "a defect of this program (it panicked); please report it");
    }));
    LogHandle { filter: handle, file }
}

/// A log that can't be file is no reason not to serve.
fn keep(settings: LogFile) -> Option<LogFileWriter> {
    let path = settings.path.clone();
    match RotatingFile::open(settings) {
        Ok(file) => Some(LogFileWriter { path, writer: Writer::start(file) }),
        Err(error) => {
            eprint(&format!("warning: log.file: {} can't be written ({error}); the log stays here", path.display()));
            None
        }
    }
}

fn layer<W>(format: Format, writer: W, is_colored: bool) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(is_colored);
    match format {
        Format::Text => lines.with_target(false).boxed(),
        Format::Json => lines.json().flatten_event(true).boxed(),
    }
}

fn filter(level: Level) -> Targets {
    Targets::new().with_target(
        OURS,
        match level {
            Level::Off => LevelFilter::OFF,
            Level::Error => LevelFilter::ERROR,
            Level::Warn => LevelFilter::WARN,
            Level::Info => LevelFilter::INFO,
            Level::Debug => LevelFilter::DEBUG,
            Level::Trace => LevelFilter::TRACE,
        },
    )
}

#[cfg(test)]
mod tests {
    use tracing::Level as Line;

    use super::{OURS, filter};
    use crate::config::Level;

    #[test]
    fn no_level_lets_a_library_speak() {
        let filter = filter(Level::Trace);
        assert!(filter.would_enable("codex_proxy::server", &Line::TRACE));
        for library in ["hyper", "reqwest::connect", "h2::codec", "rustls", "oauth2"] {
            assert!(!filter.would_enable(library, &Line::ERROR), "{library}");
        }
    }

    #[test]
    fn our_lines_are_found_by_the_name_of_this_crate() {
        assert!(module_path!().starts_with(OURS));
        assert!(!filter(Level::Warn).would_enable(module_path!(), &Line::INFO));
    }
}
