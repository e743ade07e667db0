//! A running server for a test, its log, and the models it may use.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use proto::client::SidecarClient;
use proto::model::{Caller, ChatMessage, GenerationRequest, ModelChoice, Priority, Role, Sampling};
use proto::wire::generate_response::Event;
use proto::wire::inference_service_client::InferenceServiceClient;
use proto::wire::{GenerateFinished, GetStatusResponse};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

/// Long enough for a call on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A server process; killed when dropped.
pub struct Sidecar {
    child: Child,
    folder: TempDir,
}

/// What a complete generation sent.
pub struct Answer {
    pub text: String,
    pub prompt_tokens: u32,
    pub finished: GenerateFinished,
}

/// The directory of the embedding model, or None after saying that `test` is skipped.
pub fn embedding_model(test: &str) -> Option<PathBuf> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.salesai/models/all-MiniLM-L6-v2");
    let path = std::env::var_os("SALESAI_EMBEDDING_MODEL").map_or(default, PathBuf::from);
    present(test, path.is_dir().then_some(path))
}

/// The GGUF file of the language model, or None after saying that `test` is skipped.
pub fn language_model(test: &str) -> Option<PathBuf> {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../.salesai/models/smollm2-135m-instruct");
    let is_gguf = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "gguf");
    let in_folder = || {
        std::fs::read_dir(&folder)
            .ok()?
            .flatten()
            .map(|e| e.path())
            .find(is_gguf)
    };
    let path = std::env::var_os("SALESAI_LANGUAGE_MODEL")
        .map(PathBuf::from)
        .or_else(in_folder);
    present(test, path.filter(|path| path.is_file()))
}

/// The directory of Llama 3.1's tokenizer, or None after saying that `test` is skipped.
pub fn llama_31_tokenizer(test: &str) -> Option<PathBuf> {
    let default =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../.salesai/models/llama-3.1-tokenizer");
    let path = std::env::var_os("SALESAI_LLAMA31_TOKENIZER").map_or(default, PathBuf::from);
    present(test, path.is_dir().then_some(path))
}

fn present(test: &str, path: Option<PathBuf>) -> Option<PathBuf> {
    if path.is_none() {
        println!("skipped: {test}: the model is not on this machine");
    }
    path
}

impl Sidecar {
    /// Starts a server with the embedding model and waits until it is ready.
    pub async fn with_embedding(model: &Path, arguments: &[&str]) -> Self {
        let named = format!("mini={}", model.display());
        Self::ready(&[&["--embedding-model", &named], arguments].concat()).await
    }

    /// Starts a server with the language model and waits until it is ready.
    pub async fn with_language(model: &Path, arguments: &[&str]) -> Self {
        let named = format!("smol={}", model.display());
        Self::ready(&[&["--language-model", &named], arguments].concat()).await
    }

    /// Starts a server and waits until it is ready.
    pub async fn ready(arguments: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let mut sidecar = Self::start_in(folder, arguments);
        sidecar.wait_ready().await;
        sidecar
    }

    /// Starts a server in `folder`, without waiting.
    pub fn start_in(folder: TempDir, arguments: &[&str]) -> Self {
        let child = command(&folder.path().join("socket"))
            .args(arguments)
            .stderr(
                File::options()
                    .create(true)
                    .append(true)
                    .open(folder.path().join("log"))
                    .unwrap(),
            )
            .spawn()
            .unwrap();
        Self { child, folder }
    }

    pub async fn wait_ready(&mut self) {
        let start = Instant::now();
        loop {
            let check = command(&self.socket())
                .arg("--check")
                .stderr(Stdio::null())
                .status();
            if check.unwrap().success() {
                return;
            }
            let exited = self.child.try_wait().unwrap();
            assert!(
                exited.is_none(),
                "the server ended: {exited:?}\n{}",
                self.log()
            );
            assert!(start.elapsed() < PATIENCE, "not ready\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// The folder of the socket, the log and whatever a test puts there.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    pub async fn client(&self) -> SidecarClient {
        SidecarClient::connect(&self.socket(), PATIENCE)
            .await
            .unwrap()
    }

    pub async fn channel(&self) -> Channel {
        let address = format!("unix://{}", self.socket().display());
        Endpoint::from_shared(address)
            .unwrap()
            .connect()
            .await
            .unwrap()
    }

    /// The generated client, for what the typed one hides.
    pub async fn raw_client(&self) -> InferenceServiceClient<Channel> {
        InferenceServiceClient::new(self.channel().await)
    }

    pub async fn status(&self) -> GetStatusResponse {
        self.client().await.status(PATIENCE).await.unwrap()
    }

    /// Waits until the status fulfils `condition`.
    pub async fn wait_status(&self, condition: impl Fn(&GetStatusResponse) -> bool) {
        let start = Instant::now();
        loop {
            let status = self.status().await;
            if condition(&status) {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "last status: {status:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Runs a generation to its end.
    pub async fn answer(&self, request: GenerationRequest) -> Answer {
        let mut stream = self
            .client()
            .await
            .generate(request, PATIENCE)
            .await
            .unwrap();
        let (mut text, mut prompt_tokens) = (String::new(), None);
        loop {
            match stream.next().await.unwrap().unwrap() {
                Event::Started(started) => {
                    assert_eq!(prompt_tokens.replace(started.prompt_tokens), None);
                }
                Event::Text(piece) => {
                    assert!(!piece.is_empty() && prompt_tokens.is_some());
                    text.push_str(&piece);
                }
                Event::Token(_) => {}
                Event::Finished(finished) => {
                    assert_eq!(stream.next().await.unwrap(), None);
                    return Answer {
                        text,
                        prompt_tokens: prompt_tokens.unwrap(),
                        finished,
                    };
                }
            }
        }
    }

    pub fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        assert!(
            Command::new("kill")
                .args([name, &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Waits for the end of the process.
    pub async fn exit_status(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "the server does not end\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Ends the server without a chance to clean up; the folder stays.
    pub fn kill(mut self) -> TempDir {
        self.child.kill().unwrap();
        assert_eq!(self.child.wait().unwrap().signal(), Some(9));
        std::mem::replace(&mut self.folder, TempDir::new().unwrap())
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The binary under test with its socket.
pub fn command(socket: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inference-sidecar"));
    command.arg("--socket").arg(socket);
    command
}

/// A greedy request with one user message.
pub fn greedy(content: &str, tokens_max: u32) -> GenerationRequest {
    GenerationRequest {
        model: ModelChoice::Default,
        adapter: None,
        messages: vec![ChatMessage {
            role: Role::User,
            content: content.to_owned(),
        }],
        tokens_max,
        sampling: Sampling::GREEDY,
        stop: Vec::new(),
        constraint: None,
        top_logprobs: 0,
        priority: Priority::Interactive,
        caller: Caller::default(),
    }
}

/// A request that goes on for a long time: so hot that the model neither ends nor repeats itself.
pub fn endless() -> GenerationRequest {
    let sampling = Sampling::nucleus(2.0, 0.95, 1);
    GenerationRequest {
        sampling,
        ..greedy("Write a very long story about a lighthouse.", 4000)
    }
}
