//! The Codex version that requests report. The backend offers newer models only to newer versions.
//!
//! The version of an installed Codex CLI is found without running it: the program in `PATH` is a link into its npm
//! package, or next to it.

use std::env::split_paths;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use serde::Deserialize;

/// The newest Codex version known when this release was made.
pub const NEWEST_KNOWN: &str = "0.171.0";

const PACKAGE: &str = "@openai/codex";
const PROGRAMS: [&str; 3] = ["codex", "codex.cmd", "codex.exe"];
/// How many directories above the program's target are searched for the package's manifest. In
/// `lib/node_modules/@openai/codex/bin/codex.js` it is in the second.
const MAX_DEPTH: usize = 4;
const MAX_MANIFEST_BYTES: u64 = 64 * 1024;

#[derive(Deserialize)]
struct Manifest {
    name: String,
    version: String,
}

/// Returns the version of the first Codex CLI in a search path (the value of `PATH`) whose package is found. Versions
/// other than releases (`1.2.3`) are ignored.
#[must_use]
pub fn installed(search_path: &OsStr) -> Option<String> {
    split_paths(search_path).filter(|folder| folder.is_absolute()).find_map(|folder| {
        let program = PROGRAMS.iter().map(|name| folder.join(name)).find(|path| path.is_file())?;
        package_version(&program).or_else(|| manifest_version(&folder.join("node_modules").join(PACKAGE)))
    })
}

fn package_version(program: &Path) -> Option<String> {
    let target = fs::canonicalize(program).ok()?;
    target.ancestors().skip(1).take(MAX_DEPTH).find_map(manifest_version)
}

fn manifest_version(folder: &Path) -> Option<String> {
    let path = folder.join("package.json");
    if fs::metadata(&path).ok()?.len() > MAX_MANIFEST_BYTES {
        return None;
    }
    let manifest: Manifest = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    let is_release = |version: &str| {
        let parts = version.split('.');
        parts.clone().count() == 3 && parts.into_iter().all(|part| part.parse::<u32>().is_ok())
    };
    (manifest.name == PACKAGE && is_release(&manifest.version)).then_some(manifest.version)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::installed;

    #[cfg(unix)]
    #[test]
    fn the_version_of_a_linked_package_is_found() {
        let home = tempfile::tempdir().unwrap();
        let package = home.path().join("lib/node_modules/@openai/codex");
        let programs = home.path().join("bin");
        fs::create_dir_all(package.join("bin")).unwrap();
        fs::create_dir_all(&programs).unwrap();
        fs::write(package.join("package.json"), r#"{"name":"@openai/codex","version":"0.171.2"}"#).unwrap();
        fs::write(package.join("bin/codex.js"), "").unwrap();
        std::os::unix::fs::symlink(package.join("bin/codex.js"), programs.join("codex")).unwrap();
        let search = std::env::join_paths([home.path().join("none"), programs]).unwrap();
        assert_eq!(installed(&search).as_deref(), Some("0.171.2"));
    }

    #[test]
    fn other_packages_are_ignored() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("codex"), "").unwrap();
        assert_eq!(installed(home.path().as_os_str()), None);
        for manifest in [r#"{"name":"other","version":"1.2.3"}"#, r#"{"name":"@openai/codex","version":"0.0.0-dev"}"#] {
            fs::write(home.path().join("package.json"), manifest).unwrap();
            assert_eq!(installed(home.path().as_os_str()), None);
        }
    }
}
