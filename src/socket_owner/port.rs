//! Finds the program that listens on a port: from the port to a socket in the kernel's table, from the socket to
//! a process in `/proc`. Finds processes of the same user only. Blocks.

#[cfg(target_os = "linux")]
use super::tcp_table::{Row, rows};

/// Returns the name and process id of the program that listens on a port. Blocks.
#[must_use]
#[cfg(target_os = "linux")]
pub fn listener_on(port: u16) -> Option<String> {
    let listens = |row: &Row| row.is_listening && row.local.port() == port;
    let sockets: Vec<String> = rows().filter(listens).map(|row| format!("socket:[{}]", row.inode)).collect();
    linux::owner(&sockets)
}

/// Returns `None`: not implemented for this system.
#[must_use]
#[cfg(not(target_os = "linux"))]
pub fn listener_on(_port: u16) -> Option<String> {
    None
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs;
    use std::path::Path;

    /// Returns the name and id of the first process that has one of the sockets open.
    pub(super) fn owner(sockets: &[String]) -> Option<String> {
        if sockets.is_empty() {
            return None;
        }
        let processes = fs::read_dir("/proc").ok()?.flatten();
        processes.filter(|process| has_socket(&process.path(), sockets)).find_map(|process| {
            let id: u32 = process.file_name().to_str()?.parse().ok()?;
            let name = fs::read_to_string(process.path().join("comm")).ok()?;
            let name: String = name.trim().chars().filter(|character| !character.is_control()).collect();
            Some(format!("{name} (process {id})"))
        })
    }

    fn has_socket(process: &Path, sockets: &[String]) -> bool {
        let Ok(files) = fs::read_dir(process.join("fd")) else { return false };
        files.flatten().any(|file| {
            let link = fs::read_link(file.path()).ok();
            link.and_then(|link| link.to_str().map(str::to_owned)).is_some_and(|link| sockets.contains(&link))
        })
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::listener_on;

    #[test]
    fn a_listener_of_this_process_is_found_by_its_port() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let listener_name = listener_on(port).unwrap();
        assert!(listener_name.contains(&format!("(process {})", std::process::id())), "{listener_name}");
        drop(listener);
        assert_eq!(listener_on(port), None);
    }
}
