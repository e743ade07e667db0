//! An HTTP server that follows a script: it replays recorded answers, breaks off, stalls, and notes what
//! it was asked and when its callers left.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What the server does when it is asked for a completion.
#[derive(Clone)]
pub enum Script {
    /// Sends these bytes and closes.
    Send(Vec<u8>),
    /// Sends these bytes in pieces of this many, with a pause between them.
    SendSlowly(Vec<u8>, usize, Duration),
    /// Sends these bytes and then nothing until the caller leaves.
    Stall(Vec<u8>),
    /// Closes without a word.
    Close,
}

pub struct ScriptedServer {
    pub port: u16,
    state: Arc<State>,
    task: JoinHandle<()>,
}

struct State {
    script: Mutex<Script>,
    is_healthy: AtomicBool,
    asked: AtomicU32,
    /// Callers that left while the server had more to say.
    left: AtomicU32,
    heads: Mutex<Vec<String>>,
}

impl ScriptedServer {
    pub async fn start(script: Script) -> Self {
        Self::start_at(0, script).await
    }

    pub async fn start_at(port: u16, script: Script) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            script: Mutex::new(script),
            is_healthy: AtomicBool::new(true),
            asked: AtomicU32::new(0),
            left: AtomicU32::new(0),
            heads: Mutex::default(),
        });
        let shared = state.clone();
        let task = tokio::spawn(async move {
            loop {
                let (connection, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(connection, shared.clone()));
            }
        });
        Self { port, state, task }
    }

    pub fn follow(&self, script: Script) {
        *self.state.script.lock().unwrap() = script;
    }

    pub fn set_healthy(&self, is_healthy: bool) {
        self.state.is_healthy.store(is_healthy, SeqCst);
    }

    /// Completions it was asked for.
    pub fn asked(&self) -> u32 {
        self.state.asked.load(SeqCst)
    }

    pub fn left(&self) -> u32 {
        self.state.left.load(SeqCst)
    }

    /// Request lines and headers of all requests.
    pub fn heads(&self) -> Vec<String> {
        self.state.heads.lock().unwrap().clone()
    }
}

impl Drop for ScriptedServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A recorded answer, byte for byte.
pub fn recorded(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/streams");
    std::fs::read(folder.join(format!("{name}.http"))).unwrap()
}

/// An answer that ends when the connection does.
pub fn answer(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nconnection: close\r\n{headers}\r\n{body}").into_bytes()
}

/// A stream of events with these data.
pub fn event_stream(data: &[&str]) -> Vec<u8> {
    let body: String = data
        .iter()
        .map(|data| format!("data: {data}\n\n"))
        .collect();
    answer("200 OK", "content-type: text/event-stream\r\n", &body)
}

async fn serve(mut connection: TcpStream, state: Arc<State>) {
    let Some(head) = read_request(&mut connection).await else {
        return;
    };
    let is_health = head.starts_with("GET ");
    state.heads.lock().unwrap().push(head);
    if is_health {
        let status = match state.is_healthy.load(SeqCst) {
            true => "200 OK",
            false => "503 Service Unavailable",
        };
        let _ = connection.write_all(&answer(status, "", "")).await;
        return;
    }
    state.asked.fetch_add(1, SeqCst);
    let script = state.script.lock().unwrap().clone();
    let is_sent = match script {
        Script::Close => true,
        Script::Send(bytes) => connection.write_all(&bytes).await.is_ok(),
        Script::SendSlowly(bytes, size, pause) => {
            let mut is_sent = true;
            for piece in bytes.chunks(size) {
                is_sent = is_sent && connection.write_all(piece).await.is_ok();
                tokio::time::sleep(pause).await;
            }
            is_sent
        }
        Script::Stall(bytes) => {
            connection.write_all(&bytes).await.unwrap();
            // Returns when the caller closes.
            let _ = connection.read(&mut [0; 1]).await;
            false
        }
    };
    if !is_sent {
        state.left.fetch_add(1, SeqCst);
    }
}

/// The head, after the body has been read too.
async fn read_request(connection: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let count = connection.read(&mut buffer).await.ok()?;
        if count == 0 {
            return None;
        }
        bytes.extend_from_slice(&buffer[..count]);
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().unwrap());
        if bytes.len() >= end + 4 + length {
            return Some(head);
        }
    }
}
