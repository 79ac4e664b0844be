//! Reads the settings again while the daemon runs.
//!
//! What can change does so at once and as a whole, for requests that come from then on; open
//! answers go on as they began, and nothing is bound again. Settings with a fault change nothing:
//! every fault is logged, and what held before goes on holding.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;

use super::logging::LogHandle;
use crate::config::{Config, Environment, Flags, load, unapplied};
use crate::server::{AccessSettings, LiveSettings};

/// Where the settings of a daemon come from, and its log.
#[derive(Debug)]
pub(super) struct Sources {
    pub(super) flags: Flags,
    pub(super) environment: Environment,
    pub(super) log: Option<LogHandle>,
}

/// Who can exposure a running daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exposure {
    /// Programs of this machine.
    LocalOnly,
    /// Other machines, which have to show a key.
    Remote,
}

/// The settings of a running daemon.
#[derive(Debug)]
pub(super) struct Settings {
    sources: Sources,
    /// As they were when it started.
    started: Config,
    live: watch::Sender<Arc<LiveSettings>>,
}

impl Settings {
    pub(super) fn new(sources: Sources, started: Config) -> Self {
        let live = watch::Sender::new(Arc::new(live(&started)));
        Self { sources, started, live }
    }

    /// The file that the log goes to.
    pub(super) fn log_file(&self) -> Option<&Path> {
        self.sources.log.as_ref()?.file()
    }

    /// What holds at any moment.
    pub(super) fn live(&self) -> watch::Receiver<Arc<LiveSettings>> {
        self.live.subscribe()
    }

    /// Takes over what the sources say now.
    pub(super) fn reload(&self, exposure: Exposure) {
        if let Some(log) = &self.sources.log {
            log.reopen();
        }
        let config = match load(&self.sources.flags, &self.sources.environment) {
            Ok(config) => config,
            Err(faults) => {
                for fault in &faults.0 {
                    tracing::error!(%fault, "the settings were read again and can't be used: nothing changes");
                }
                return;
            }
        };
        // The file may name another address than the one that this daemon is bound to.
        if exposure == Exposure::Remote && (config.access.keys.is_empty() || !config.short_keys.is_empty()) {
            tracing::error!(
                "the settings were read again and can't be used: other machines reach this daemon, \
                 and it would ask for no client key, or for one that is too short; nothing changes"
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
        tracing::info!(keys = keys.len(), "the settings were read again");
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        let waiting = unapplied(&self.started, config);
        if !waiting.is_empty() {
            tracing::warn!(keys = waiting.join(", "), "settings that differ take effect at the next start only");
        }
    }
}

fn live(config: &Config) -> LiveSettings {
    LiveSettings { access: config.access.clone(), rules: Arc::new(config.rules.clone()) }
}
