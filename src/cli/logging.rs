//! The log: to standard error, and of our own crate alone.
//!
//! The log lines of libraries may hold headers and bodies, so that no level lets them through. What
//! a panic says may repeat them as well: only its place is written.

use std::io::{self, IsTerminal};
use std::panic::Location;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

use crate::config::{Environment, Format, Level, Log};

/// The only crate whose lines are written.
const OURS: &str = "codex_proxy";

/// The log that was begun.
#[derive(Debug)]
pub(super) struct LogHandle(reload::Handle<Targets, Registry>);

impl LogHandle {
    /// Says more or less from now on.
    pub(super) fn set_level(&self, level: Level) {
        // Fails only when the log is gone, and nobody listens then.
        let _ = self.0.reload(filter(level));
    }
}

/// Begins the log. Without settings, because they are at fault, as the defaults have it.
pub(super) fn start(log: Option<Log>, environment: &Environment) -> LogHandle {
    let log = log.unwrap_or(Log { level: Level::Info, format: Format::Text });
    let colour = io::stderr().is_terminal() && environment.path("NO_COLOR").is_none();
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(colour);
    let lines = match log.format {
        Format::Text => lines.with_target(false).boxed(),
        Format::Json => lines.json().flatten_event(true).boxed(),
    };
    let (filter, handle) = reload::Layer::new(filter(log.level));
    // Fails only where a log has begun already, which then goes on.
    let _ = tracing_subscriber::registry().with(lines.with_filter(filter)).try_init();
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(Location::to_string).unwrap_or_default();
        tracing::error!(place, "a defect of this program (it panicked); please report it");
    }));
    LogHandle(handle)
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
