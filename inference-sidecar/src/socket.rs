//! The Unix socket: one live server per path, leftovers of a killed one are removed.

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

use crate::error::Error;

/// The bound socket's path; removes the file when dropped.
pub struct SocketFile {
    path: PathBuf,
}

/// Binds `path` with mode 0600, or fails when another server answers there.
pub fn bind(path: &Path) -> Result<(UnixListener, SocketFile), Error> {
    let at_path = |source| Error::Socket {
        path: path.to_owned(),
        source,
    };
    remove_stale(path)?;
    let listener = UnixListener::bind(path).map_err(at_path)?;
    let file = SocketFile {
        path: path.to_owned(),
    };
    // Between bind and here the directory's mode protects the socket.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(at_path)?;
    Ok((listener, file))
}

fn remove_stale(path: &Path) -> Result<(), Error> {
    let at_path = |source| Error::Socket {
        path: path.to_owned(),
        source,
    };
    let metadata = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(at_path(error)),
    };
    if !metadata.file_type().is_socket() {
        return Err(at_path(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "not a socket",
        )));
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(Error::SocketInUse {
            path: path.to_owned(),
        }),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            tracing::info!("removing the socket of a server that is gone");
            std::fs::remove_file(path).map_err(at_path)
        }
        Err(error) => Err(at_path(error)),
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "could not remove the socket"
            );
        }
    }
}
