//! A small private disk for the soak test, which can be filled, with a directory that can be made read-only.
//!
//! Permissions don't stop root, which often runs tests, so both are done with mounts in a private namespace:
//! the soak test runs itself again inside one. If the system doesn't allow that, it prints a note and continues
//! without.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::time::sleep;

/// Size of the disk: enough for the store, its copy and a probe.
const SIZE: &str = "size=1m";
const ROOM: &str = "SOAK_ROOM";

/// Where the soak test runs.
pub(crate) enum Room {
    /// It ran inside a namespace, with this result.
    Elsewhere { is_success: bool },
    /// This process is inside the namespace, and the disk is at this path.
    Here(std::path::PathBuf),
    /// There is no namespace, for this reason.
    None(String),
}

impl Room {
    /// Enters a namespace if possible.
    pub(crate) fn enter() -> Self {
        if let Some(path) = crate::variable(ROOM) {
            return match mount(&["-t", "tmpfs", "-o", SIZE, "tmpfs", &path]) {
                Ok(()) => Self::Here(path.into()),
                Err(why) => Self::None(why),
            };
        }
        let can = run(Command::new("unshare").args(["--user", "--map-root-user", "--mount", "true"]));
        if let Err(why) = can {
            return Self::None(why);
        }
        let folder = tempfile::tempdir().unwrap();
        let mut inside = Command::new("unshare");
        inside.args(["--user", "--map-root-user", "--mount"]).arg(std::env::current_exe().unwrap());
        inside.args(["--ignored", "--exact", "--nocapture", "soak"]).env(ROOM, folder.path());
        Self::Elsewhere { is_success: inside.status().unwrap().success() }
    }
}

/// Fills the disk temporarily.
pub(crate) async fn fill(room: &Path, moment: Duration) {
    let filler = room.join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    let (page, mut written) = ([0; 4096], 0);
    while file.write_all(&page).is_ok() {
        written += page.len();
        assert!(written < 16 * 1024 * 1024, "the disk does not fill");
    }
    sleep(moment).await;
    drop(file);
    std::fs::remove_file(&filler).unwrap();
}

/// Makes a directory read-only temporarily, unless a process is writing to it.
pub(crate) async fn freeze(folder: &Path, moment: Duration) -> bool {
    let folder = folder.to_str().unwrap();
    mount(&["--bind", folder, folder]).unwrap();
    let is_frozen = mount(&["-o", "remount,bind,ro", folder]).is_ok();
    if is_frozen {
        let probe = std::fs::File::create(Path::new(folder).join("probe")).unwrap_err();
        assert_eq!(probe.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
        sleep(moment).await;
    }
    run(Command::new("umount").args(["-l", folder])).unwrap();
    is_frozen
}

fn mount(arguments: &[&str]) -> Result<(), String> {
    run(Command::new("mount").args(arguments))
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{command:?}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(()) } else { Err(said) }
}
