//! Logging to stderr or, for the daemon, to a file.
//!
//! Only events of this crate are logged: those of libraries can contain headers and bodies. For the same reason, a
//! panic is logged with its location but without its message.

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
use crate::config::{Environment, LogFile, LogFormat, LogLevel, LogSettings};

/// The only crate whose events are logged.
const CRATE: &str = "codex_proxy";

/// A handle to the running log.
#[derive(Clone, Debug)]
pub(super) struct LogHandle {
    filter: reload::Handle<Targets, Registry>,
    file: Option<LogFileWriter>,
}

#[derive(Clone, Debug)]
struct LogFileWriter {
    path: PathBuf,
    writer: Writer,
}

impl LogHandle {
    /// Changes the level.
    pub(super) fn set_level(&self, level: LogLevel) {
        // Fails only if the subscriber is gone.
        let _ = self.filter.reload(filter(level));
    }

    /// Returns the path of the log file, if there is one.
    pub(super) fn file(&self) -> Option<&Path> {
        self.file.as_ref().map(|file| file.path.as_path())
    }

    /// Reopens the log file at its path, after another program moved it.
    pub(super) fn reopen(&self) {
        if let Some(file) = &self.file {
            file.writer.reopen();
        }
    }

    /// Waits until all events are written.
    pub(super) fn finish(&self) {
        if let Some(file) = &self.file {
            file.writer.finish();
        }
    }
}

/// Starts logging. Without settings (they are invalid), the defaults apply.
pub(super) fn start(log: Option<LogSettings>, environment: &Environment) -> LogHandle {
    let log = log.unwrap_or(LogSettings { level: LogLevel::Info, format: LogFormat::Text, file: None });
    let (filter, handle) = reload::Layer::new(filter(log.level));
    let file = log.file.and_then(open);
    let lines = if let Some(file) = &file {
        let writer = file.writer.clone();
        layer(log.format, move || writer.clone(), false)
    } else {
        let is_colored = io::stderr().is_terminal() && !color::is_disabled(environment);
        layer(log.format, io::stderr, is_colored)
    };
    // Fails only if logging was started already; it stays as it is then.
    let _ = tracing_subscriber::registry().with(lines.with_filter(filter)).try_init();
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(Location::to_string).unwrap_or_default();
        tracing::error!(place, "codex-proxy panicked; this is a bug, please report it");
    }));
    LogHandle { filter: handle, file }
}

/// Opens the log file. If that fails, the log goes to stderr: the daemon serves nevertheless.
fn open(settings: LogFile) -> Option<LogFileWriter> {
    let path = settings.path.clone();
    match RotatingFile::open(settings) {
        Ok(file) => Some(LogFileWriter { path, writer: Writer::start(file) }),
        Err(error) => {
            eprint(&format!(
                "warning: log.file: can't write {} ({error}); logging to standard error instead",
                path.display()
            ));
            None
        }
    }
}

fn layer<W>(format: LogFormat, writer: W, is_colored: bool) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(is_colored);
    match format {
        LogFormat::Text => lines.with_target(false).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    }
}

fn filter(level: LogLevel) -> Targets {
    Targets::new().with_target(
        CRATE,
        match level {
            LogLevel::Off => LevelFilter::OFF,
            LogLevel::Error => LevelFilter::ERROR,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Debug => LevelFilter::DEBUG,
            LogLevel::Trace => LevelFilter::TRACE,
        },
    )
}

#[cfg(test)]
mod tests {
    use tracing::Level as Line;

    use super::{CRATE, filter};
    use crate::config::LogLevel;

    #[test]
    fn no_level_enables_events_of_libraries() {
        let filter = filter(LogLevel::Trace);
        assert!(filter.would_enable("codex_proxy::server", &Line::TRACE));
        for library in ["hyper", "reqwest::connect", "h2::codec", "rustls", "oauth2"] {
            assert!(!filter.would_enable(library, &Line::ERROR), "{library}");
        }
    }

    #[test]
    fn events_of_this_crate_have_its_name_as_target() {
        assert!(module_path!().starts_with(CRATE));
        assert!(!filter(LogLevel::Warn).would_enable(module_path!(), &Line::INFO));
    }
}
