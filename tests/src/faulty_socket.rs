//! A socket before a sidecar's that fails as a server does which some text kills, or keeps busy for ever.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::process;

/// In a text: the connection breaks.
pub const BREAKING: &str = "brimstone";
/// In a text: no answer comes.
pub const STALLING: &str = "quicksand";

/// Passes everything on, byte for byte, but requests with one of the two words, until it is mended.
pub struct FaultySocket {
    path: PathBuf,
    is_mended: Arc<AtomicBool>,
}

impl FaultySocket {
    pub fn before(sidecar: PathBuf) -> Self {
        let path = process::new_dir("f").join("sidecar.sock");
        let listener = UnixListener::bind(&path).expect("listen on a socket");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("open the socket");
        let is_mended = Arc::new(AtomicBool::new(false));
        let mended = Arc::clone(&is_mended);
        // It ends with the process.
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if let Ok(server) = UnixStream::connect(&sidecar) {
                    let mended = Arc::clone(&mended);
                    std::thread::spawn(move || pass_on(client, server, &mended));
                }
            }
        });
        Self { path, is_mended }
    }

    pub fn socket(&self) -> PathBuf {
        self.path.clone()
    }

    /// From now on it passes on everything.
    pub fn mend(&self) {
        self.is_mended.store(true, Ordering::Relaxed);
    }
}

fn pass_on(client: UnixStream, server: UnixStream, is_mended: &AtomicBool) {
    let (Ok(answers), Ok(asker)) = (server.try_clone(), client.try_clone()) else {
        return;
    };
    let back = std::thread::spawn(move || copy(answers, asker, |_| false));
    let mut is_stalled = false;
    copy(
        client.try_clone().expect("share a socket"),
        server,
        |bytes| {
            let names = |word: &str| {
                bytes
                    .windows(word.len())
                    .any(|part| part == word.as_bytes())
            };
            if is_mended.load(Ordering::Relaxed) {
                return false;
            }
            if names(BREAKING) {
                let _ = client.shutdown(Shutdown::Both);
            }
            is_stalled |= names(STALLING);
            is_stalled
        },
    );
    let _ = back.join();
}

/// Copies what is not `kept`, until one side closes, and closes the other.
fn copy(mut from: UnixStream, mut to: UnixStream, mut is_kept: impl FnMut(&[u8]) -> bool) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        if !is_kept(&bytes[..count]) && to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}
