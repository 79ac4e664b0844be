//! Reloads the settings of a running daemon.
//!
//! Settings that can change at run time take effect together, for new requests; open responses keep theirs, and no
//! address is bound again. If the new settings are invalid, every error is logged and nothing changes.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;

use super::logging::LogHandle;
use crate::config::{Config, Environment, Flags, load, needing_restart};
use crate::server::{AccessSettings, LiveSettings};

/// The sources of the settings, to read them again, and the running log.
#[derive(Debug)]
pub(super) struct Sources {
    pub(super) flags: Flags,
    pub(super) environment: Environment,
    pub(super) log: Option<LogHandle>,
}

/// Who can connect to a running daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exposure {
    /// Programs on this machine.
    LocalOnly,
    /// Other machines, which need a client key.
    Remote,
}

/// The settings of a running daemon.
#[derive(Debug)]
pub(super) struct Settings {
    sources: Sources,
    /// The settings at the start.
    started: Config,
    live: watch::Sender<Arc<LiveSettings>>,
}

impl Settings {
    pub(super) fn new(sources: Sources, started: Config) -> Self {
        let live = watch::Sender::new(Arc::new(live(&started)));
        Self { sources, started, live }
    }

    /// Returns the path of the log file, if there is one.
    pub(super) fn log_file(&self) -> Option<&Path> {
        self.sources.log.as_ref()?.file()
    }

    /// Returns a receiver of the settings that can change at run time.
    pub(super) fn live(&self) -> watch::Receiver<Arc<LiveSettings>> {
        self.live.subscribe()
    }

    /// Reads the settings again and applies them. Also reopens the log file.
    pub(super) fn reload(&self, exposure: Exposure) {
        if let Some(log) = &self.sources.log {
            log.reopen();
        }
        let config = match load(&self.sources.flags, &self.sources.environment) {
            Ok(config) => config,
            Err(faults) => {
                for fault in &faults.0 {
                    tracing::error!(%fault, "settings not reloaded: they are invalid");
                }
                return;
            }
        };
        // The new settings may name a loopback address, but the daemon stays bound to the old one.
        if exposure == Exposure::Remote && (config.access.keys.is_empty() || !config.short_keys.is_empty()) {
            tracing::error!(
                "settings not reloaded: other machines can reach this daemon, so it requires client keys of at least \
                 16 characters"
            );
            return;
        }
        self.apply(&config);
    }

    fn apply(&self, config: &Config) {
        if let Some(log) = &self.sources.log {
            log.set_level(config.log.level);
        }
        self.live.send_replace(Arc::new(live(config)));
        let AccessSettings { keys, .. } = &config.access;
        tracing::info!(keys = keys.len(), "settings reloaded");
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        let pending = needing_restart(&self.started, config);
        if !pending.is_empty() {
            tracing::warn!(keys = pending.join(", "), "some changed settings take effect after a restart");
        }
    }
}

/// Returns the settings that can change at run time.
fn live(config: &Config) -> LiveSettings {
    LiveSettings { access: config.access.clone(), rules: Arc::new(config.rules.clone()) }
}
