//! The Unix socket as a door: for its owner alone, and never in the place of a daemon that lives.
//!
//! A socket that nobody answers at was left behind, and is replaced. The file goes as soon as
//! nobody is let in any more, unless another daemon has put its own there.

use std::fs::{self, Metadata, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixSocket, UnixStream};

use super::BindError;
use crate::fs::{create_private_directory, directory_of};

/// Connections that may wait to be accepted, as many as for a TCP listener.
const BACKLOG: u32 = 1024;

/// A socket that is listened on; dropping it removes its file.
#[derive(Debug)]
pub(super) struct Socket {
    listener: UnixListener,
    path: PathBuf,
    identity: Option<(u64, u64)>,
}

/// Listens at a path.
pub(super) async fn bind(path: &Path) -> Result<Socket, BindError> {
    make_way(path).await?;
    let failed = |source: io::Error| match source.kind() {
        ErrorKind::AddrInUse => BindError::SocketInUse { path: path.to_owned(), process: None },
        _ => BindError::Socket { path: path.to_owned(), source },
    };
    create_private_directory(directory_of(path)).map_err(failed)?;
    let listener = listen(path).map_err(failed)?;
    Ok(Socket { listener, path: path.to_owned(), identity: identity(path) })
}

/// Creates the socket, for its owner alone. Connections are refused until it listens, so that nobody
/// else can connect before its mode is set; the process's umask, which other threads use, stays as it is.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let socket = UnixSocket::new_stream()?;
    socket.bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    socket.listen(BACKLOG)
}

/// Removes the socket of a daemon that is dead.
async fn make_way(path: &Path) -> Result<(), BindError> {
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
