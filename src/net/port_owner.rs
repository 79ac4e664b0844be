//! Who holds a port, where the system tells without asking for more rights.
//!
//! On Linux the tables of `/proc` lead from the port to a socket and from the socket to a process
//! of the same user. Elsewhere, and for other users' processes, nothing is said. It blocks.

#[cfg(target_os = "linux")]
use super::tcp_table::{Row, rows};

/// The program that listens on a port: its name and process.
#[must_use]
#[cfg(target_os = "linux")]
pub fn of_port(port: u16) -> Option<String> {
    let listens = |row: &Row| row.is_listening && row.local.port() == port;
    let sockets: Vec<String> = rows().filter(listens).map(|row| format!("socket:[{}]", row.inode)).collect();
    linux::owner(&sockets)
}

/// The program that listens on a port: not known here.
#[must_use]
#[cfg(not(target_os = "linux"))]
pub fn of_port(_port: u16) -> Option<String> {
    None
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs;
    use std::path::Path;

    /// The process that has one of the sockets open.
    pub(super) fn owner(sockets: &[String]) -> Option<String> {
        if sockets.is_empty() {
            return None;
        }
        let processes = fs::read_dir("/proc").ok()?.flatten();
        processes.filter(|process| has_one(&process.path(), sockets)).find_map(|process| {
            let id: u32 = process.file_name().to_str()?.parse().ok()?;
            let name = fs::read_to_string(process.path().join("comm")).ok()?;
            let name: String = name.trim().chars().filter(|character| !character.is_control()).collect();
            Some(format!("{name} (process {id})"))
        })
    }

    fn has_one(process: &Path, sockets: &[String]) -> bool {
        let Ok(files) = fs::read_dir(process.join("fd")) else { return false };
        files.flatten().any(|file| {
            let link = fs::read_link(file.path()).ok();
            link.and_then(|link| link.to_str().map(str::to_owned)).is_some_and(|link| sockets.contains(&link))
        })
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::of_port;

    #[test]
    fn a_listener_of_ours_is_found_by_its_port() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let holder = of_port(port).unwrap();
        assert!(holder.contains(&format!("(process {})", std::process::id())), "{holder}");
        drop(listener);
        assert_eq!(of_port(port), None);
    }
}
