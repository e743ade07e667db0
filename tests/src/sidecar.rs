//! An inference sidecar on a socket of its own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use crate::config::config;
use crate::measure::wait_until;
use crate::process;
use crate::small_bert;

const READY_LIMIT: Duration = Duration::from_secs(120);

/// A sidecar that can be stopped, killed and stalled; dropping it stops it.
pub struct Sidecar {
    dir: PathBuf,
    /// The default one, with its name.
    embedding_model: String,
    has_language_model: bool,
    /// Flags besides those that all have, with their values.
    arguments: Vec<[String; 2]>,
    child: Mutex<Option<Child>>,
}

impl Sidecar {
    /// Starts a sidecar and waits until it is ready.
    pub fn start() -> Self {
        let sidecar = Self::stopped();
        sidecar.launch();
        sidecar
    }

    /// A sidecar that does not run yet.
    pub fn stopped() -> Self {
        Self::with_arguments(Vec::new())
    }

    /// Starts one with another embedding model as well.
    pub fn start_with_model(name: &str, model: PathBuf) -> Self {
        let sidecar =
            Self::with_arguments(vec![["--embedding-model".to_owned(), named(name, &model)]]);
        sidecar.launch();
        sidecar
    }

    /// Starts one with another embedding model instead.
    pub fn start_with_default_model(name: &str, model: &Path) -> Self {
        let mut sidecar = Self::stopped();
        sidecar.embedding_model = named(name, model);
        sidecar.launch();
        sidecar
    }

    /// Starts one with a setting of its command line.
    pub fn start_with(flag: &str, value: &str) -> Self {
        let sidecar = Self::with_arguments(vec![[flag.to_owned(), value.to_owned()]]);
        sidecar.launch();
        sidecar
    }

    /// Starts one that only embeds.
    pub fn start_without_language_model() -> Self {
        let mut sidecar = Self::stopped();
        sidecar.has_language_model = false;
        sidecar.launch();
        sidecar
    }

    fn with_arguments(arguments: Vec<[String; 2]>) -> Self {
        Self {
            dir: process::new_dir("s"),
            embedding_model: named("all-MiniLM-L6-v2", &config().embedding_model),
            has_language_model: true,
            arguments,
            child: Mutex::new(None),
        }
    }

    /// The one that tests share which never stop it; it has a cross-encoder as well.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Sidecar> = OnceLock::new();
        SHARED.get_or_init(|| {
            let model = named("small-cross-encoder", &small_bert::write_cross_encoder());
            let sidecar = Self::with_arguments(vec![["--reranking-model".to_owned(), model]]);
            sidecar.launch();
            sidecar
        })
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.join("sidecar.sock")
    }

    /// Starts the process and waits until it is ready.
    pub fn launch(&self) {
        let config = config();
        let log = File::create(self.dir.join("log")).expect("create the sidecar's log");
        let mut command = process::command(&config.sidecar, &self.dir);
        command
            .arg("--socket")
            .arg(self.socket())
            .arg("--embedding-model")
            .arg(&self.embedding_model)
            .args(self.arguments.iter().flatten());
        if self.has_language_model {
            command
                .arg("--language-model")
                .arg(named("smollm2-135m-instruct", &config.language_model));
        }
        let child = command
            .stdout(log.try_clone().expect("share the log"))
            .stderr(log)
            .spawn()
            .expect("start the sidecar");
        *self.child() = Some(child);
        wait_until("the sidecar is ready", READY_LIMIT, || {
            let mut check = process::command(&config.sidecar, &self.dir);
            check.arg("--check").arg("--socket").arg(self.socket());
            check
                .output()
                .expect("run the sidecar's check")
                .status
                .success()
        });
    }

    /// All that the sidecar logged since it was last launched.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).expect("read the sidecar's log")
    }

    /// Ends it as an operator does.
    pub fn stop(&self) {
        self.end("-TERM");
    }

    /// Ends it in the middle of anything.
    pub fn kill(&self) {
        self.end("-KILL");
    }

    /// Lets it stand still: it accepts connections and answers nothing.
    pub fn pause(&self) {
        process::signal("-STOP", self.pid());
    }

    pub fn resume(&self) {
        process::signal("-CONT", self.pid());
    }

    fn pid(&self) -> u32 {
        self.child().as_ref().expect("the sidecar runs").id()
    }

    fn end(&self, signal: &str) {
        if let Some(mut child) = self.child().take() {
            process::signal(signal, child.id());
            child.wait().expect("wait for the sidecar");
        }
    }

    fn child(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.child
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        // Killed, because a stalled one ignores everything else.
        if let Some(mut child) = self.child().take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn named(name: &str, path: &Path) -> String {
    format!("{name}={}", path.display())
}
