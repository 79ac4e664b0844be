//! A disk of the soak's own, small enough to be filled, with a folder that can be made read-only.
//!
//! Rights don't stop root, who often runs tests, so that both are done by mounts, in a namespace
//! that nobody else sees: the soak starts itself once more inside one. Where the system does not
//! allow that, it says so, and goes on without.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::time::sleep;

/// What the disk holds: enough for the store, its copy and a probe.
const SIZE: &str = "size=1m";
const ROOM: &str = "SOAK_ROOM";

/// How the soak goes on.
pub(crate) enum Room {
    /// It went on inside a namespace, and ended so.
    Elsewhere { is_success: bool },
    /// We are inside, and the disk is here.
    Here(std::path::PathBuf),
    /// There is none, for this reason.
    None(String),
}

impl Room {
    /// Enters a namespace if that can be done.
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

/// Leaves no room on the disk for a moment.
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

/// Makes a folder read-only for a moment; not at all when somebody is just writing there.
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
