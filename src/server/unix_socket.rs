//! Listens on a Unix socket that only its owner can open.
//!
//! A socket file that no process listens on is replaced. The file is removed when the listener is dropped, unless
//! another process has replaced it.

use std::fs::{self, Metadata, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixSocket, UnixStream};

use super::BindError;
use crate::fs::{create_private_directory, directory_of};

/// Size of the accept queue, as for a TCP listener.
const BACKLOG: u32 = 1024;

/// A listening socket; dropping it removes its file.
#[derive(Debug)]
pub(super) struct Socket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the file, which show whether another process has replaced it.
    identity: Option<(u64, u64)>,
}

/// Listens at a path. Creates its directory if needed, and replaces a stale socket file.
///
/// # Errors
/// If the path is in use, isn't a socket or can't be written.
pub(super) async fn bind(path: &Path) -> Result<Socket, BindError> {
    remove_stale(path).await?;
    let failed = |source: io::Error| match source.kind() {
        ErrorKind::AddrInUse => BindError::SocketInUse { path: path.to_owned(), process: None },
        _ => BindError::Socket { path: path.to_owned(), source },
    };
    create_private_directory(directory_of(path)).map_err(failed)?;
    let listener = listen(path).map_err(failed)?;
    Ok(Socket { listener, path: path.to_owned(), identity: identity(path) })
}

/// Creates the socket with mode 0600. Connections are refused until it listens, so no other user can connect before the
/// mode is set. The umask stays as it is, since it affects other threads.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let socket = UnixSocket::new_stream()?;
    socket.bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    socket.listen(BACKLOG)
}

/// Removes a socket file that no process listens on.
async fn remove_stale(path: &Path) -> Result<(), BindError> {
    let failed = |source: io::Error| BindError::Socket { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Ok(file) if file.file_type().is_socket() => {}
        Ok(_) => return Err(BindError::NotASocket { path: path.to_owned() }),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    }
    match UnixStream::connect(path).await {
        Ok(stream) => {
            let process = stream.peer_cred().ok().and_then(|peer| peer.pid());
            Err(BindError::SocketInUse { path: path.to_owned(), process })
        }
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(failed),
        Err(error) => Err(failed(error)),
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let numbers = |file: Metadata| (file.dev(), file.ino());
    fs::symlink_metadata(path).ok().map(numbers)
}

impl Socket {
    pub(super) async fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.identity.is_some() && identity(&self.path) == self.identity {
            let _ = fs::remove_file(&self.path);
        }
    }
}
