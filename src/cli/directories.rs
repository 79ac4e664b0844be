//! The program's directories, and whether other users can replace files in them.

use std::path::PathBuf;

use crate::config::Config;
use crate::fs::{ExposedDirectory, directory_of, resolve};
use crate::server::Listen;

/// Returns the directory of the credential file.
pub(super) fn of_credentials(config: &Config) -> PathBuf {
    directory_of(&resolve(&config.auth.credentials)).to_owned()
}

/// Finds the directories of settings, data, state and Unix socket that other users can write to.
pub(super) fn exposed(config: &Config) -> Vec<ExposedDirectory> {
    let paths = &config.paths;
    let files = [&paths.config, &paths.run_file, &paths.catalogue, &paths.responses, &paths.usage, &paths.connected];
    let mut directories: Vec<_> = files.into_iter().map(|file| directory_of(file)).collect();
    directories.push(&paths.data);
    match &config.server.listen {
        #[cfg(unix)]
        Listen::Unix(socket) => directories.push(directory_of(socket)),
        Listen::Tcp(_) => {}
    }
    let mut directories: Vec<_> = directories.into_iter().map(resolve).collect();
    directories.sort();
    directories.dedup();
    directories.iter().filter_map(|directory| ExposedDirectory::find(directory)).collect()
}
