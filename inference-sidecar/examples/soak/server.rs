//! The sidecar under test.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use proto::client::SidecarClient;
use proto::wire::{GetStatusResponse, ServerState};
use tempfile::TempDir;

/// How long one call of the driver itself may take.
pub const CALL_LIMIT: Duration = Duration::from_secs(120);
const READY_LIMIT: Duration = Duration::from_secs(180);
/// A server process with a socket of its own; killed when dropped.
pub struct Server {
    child: Child,
    folder: TempDir,
}

impl Server {
    /// `settings` are lines of the configuration file.
    pub async fn start(sidecar: &Path, model: &Path, settings: &str) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let config = folder.path().join("sidecar.toml");
        let text = format!(
            "socket = {:?}\nmetrics_listen = {:?}\n{settings}\
             [[language_model]]\nname = \"smol\"\npath = {model:?}\n",
            folder.path().join("socket"),
            folder.path().join("metrics"),
        );
        std::fs::write(&config, text)?;
        let log = File::create(folder.path().join("log"))?;
        let child = Command::new(sidecar)
            .arg("serve")
            .arg("--config")
            .arg(config)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {sidecar:?}"))?;
        let mut server = Self { child, folder };
        if let Err(error) = server.wait_ready().await {
            bail!("{error:#}\n{}", server.log_tail());
        }
        Ok(server)
    }

    pub async fn client(&self) -> anyhow::Result<SidecarClient> {
        let socket: PathBuf = self.folder.path().join("socket");
        Ok(SidecarClient::connect(&socket, CALL_LIMIT).await?)
    }

    pub async fn status(&self) -> anyhow::Result<GetStatusResponse> {
        Ok(self.client().await?.status(CALL_LIMIT).await?)
    }

    /// Waits until nothing runs, waits or holds blocks.
    pub async fn wait_idle(&self, limit: Duration) -> anyhow::Result<()> {
        let start = Instant::now();
        loop {
            let status = self.status().await?;
            let held = u64::from(status.running_requests + status.waiting_requests)
                + status.kv_blocks_used;
            if held == 0 {
                return Ok(());
            }
            if start.elapsed() > limit {
                bail!(
                    "not idle {} s after the last stream: {} requests run, {} wait, {} blocks are held",
                    limit.as_secs(),
                    status.running_requests,
                    status.waiting_requests,
                    status.kv_blocks_used
                );
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The last lines of the log; it holds no texts.
    pub fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }

    async fn wait_ready(&mut self) -> anyhow::Result<()> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("the sidecar ended: {status}");
            }
            if let Ok(status) = self.status().await
                && status.state() == ServerState::Ready
            {
                return Ok(());
            }
            if start.elapsed() > READY_LIMIT {
                bail!("the sidecar is not ready after {} s", READY_LIMIT.as_secs());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
