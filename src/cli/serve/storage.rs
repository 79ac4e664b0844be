//! Opens the stores of responses, files and usage.

use std::sync::Arc;

use super::super::output::eprint;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::history::{FileStore, Responses, UsageStore, UsageTotals};
use crate::protocol::responses;
use crate::server::Backend;

/// Opens the store of responses. If the file can't be opened or isn't configured, responses are kept in memory.
pub(super) async fn open_responses(config: &Config, backend: Backend) -> Arc<Responses> {
    // Simulated and replayed responses aren't written to the file.
    if config.responses.store != responses::Store::Disk || backend != Backend::ChatGpt {
        return Arc::default();
    }
    match Responses::on_disk(config.paths.responses.clone(), Arc::new(SystemClock)).await {
        Ok((history, notice)) => {
            if let Some(notice) = notice {
                eprint(&format!("warning: {notice}"));
            }
            Arc::new(history)
        }
        Err(error) => {
            eprint(&format!("warning: {error}; responses are kept in memory"));
            Arc::default()
        }
    }
}

/// Opens the store of files and batches. If the directory can't be used, they are kept in memory. So are those of the
/// demo and of a replay.
pub(super) async fn open_files(config: &Config, backend: Backend, clock: &Arc<dyn Clock>) -> FileStore {
    let settings = config.history.files;
    if backend == Backend::ChatGpt {
        match FileStore::on_disk(config.paths.files.clone(), settings, Arc::clone(clock)).await {
            Ok((files, notice)) => {
                if let Some(notice) = notice {
                    eprint(&format!("warning: {notice}"));
                }
                return files;
            }
            Err(error) => eprint(&format!("warning: {error}; uploaded files and batches are kept in memory")),
        }
    }
    FileStore::in_memory(settings, Arc::clone(clock))
}

/// Opens the usage totals. If the file can't be opened, usage is counted in memory. So are simulated and replayed
/// responses.
pub(super) async fn open_usage(config: &Config, backend: Backend, clock: &Arc<dyn Clock>) -> Arc<UsageTotals> {
    let (store, keep_days) = (config.history.usage_store, config.history.usage_keep_days);
    if store == UsageStore::Disk && backend == Backend::ChatGpt {
        match UsageTotals::on_disk(config.paths.usage.clone(), keep_days, Arc::clone(clock)).await {
            Ok((totals, notice)) => {
                if let Some(notice) = notice {
                    eprint(&format!("warning: {notice}"));
                }
                return Arc::new(totals);
            }
            Err(error) => eprint(&format!("warning: {error}; usage is counted in memory")),
        }
    }
    Arc::new(UsageTotals::in_memory(store, keep_days, Arc::clone(clock)))
}
