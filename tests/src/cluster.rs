//! A PostgreSQL cluster with the extension, on a Unix socket only.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use postgres::NoTls;

use crate::config::config;
use crate::measure::wait_until;
use crate::process;
use crate::session::Session;

const START_LIMIT: Duration = Duration::from_secs(60);
/// Longer than the default, because tests share their machine with a build.
const MODEL_CALL_LIMIT: Duration = Duration::from_secs(180);
/// The database that the worker serves.
pub const DATABASE: &str = "salesai";

/// What a cluster is started with.
pub struct Settings {
    pub sidecar_socket: PathBuf,
    /// Whether a background worker drains the queue.
    pub worker: bool,
    /// Whether the server loads the library when it starts; a worker needs that.
    pub preload: bool,
    /// Whether commits survive a crash of the machine; slow.
    pub durable: bool,
    /// Content of the master key file.
    pub master_key: String,
    pub shared_buffers: &'static str,
}

impl Settings {
    pub fn new(sidecar_socket: PathBuf) -> Self {
        Self {
            sidecar_socket,
            worker: true,
            preload: true,
            durable: false,
            master_key: "0123456789abcdef".repeat(4),
            shared_buffers: "64MB",
        }
    }
}

/// A running cluster; dropping it stops it and deletes its files.
pub struct Cluster {
    dir: PathBuf,
    server: Mutex<Option<Child>>,
}

impl Cluster {
    /// Makes a cluster with the database [`DATABASE`] and the extension in it.
    pub fn start(settings: &Settings) -> Self {
        let cluster = Self::start_empty(settings);
        cluster
            .connect()
            .run("create extension vector; create extension pg_salesai");
        cluster
    }

    /// Like [`Self::start`], without the extension.
    pub fn start_empty(settings: &Settings) -> Self {
        let cluster = Self {
            dir: process::new_dir("c"),
            server: Mutex::new(None),
        };
        process::write_file(&cluster.master_key_file(), &settings.master_key, 0o600);
        cluster.init(settings);
        cluster.launch();
        cluster
    }

    /// A standby that follows this one by streaming replication.
    pub fn standby(&self) -> Self {
        let standby = Self {
            dir: process::new_dir("c"),
            server: Mutex::new(None),
        };
        process::run(
            self.client_program("pg_basebackup")
                .args([
                    "--checkpoint=fast",
                    "--no-sync",
                    "--write-recovery-conf",
                    "-D",
                ])
                .arg(standby.data()),
        );
        let key = fs::read_to_string(self.master_key_file()).expect("read the master key");
        process::write_file(&standby.master_key_file(), &key, 0o600);
        let path = standby.data().join("postgresql.conf");
        let mut text = fs::read_to_string(&path).expect("read the settings");
        text.push_str(&format!(
            "unix_socket_directories = '{}'\nsalesai.master_key_file = '{}'\n",
            standby.dir.display(),
            standby.master_key_file().display()
        ));
        process::write_file(&path, &text, 0o600);
        standby.launch();
        standby
    }

    /// Starts the server and waits until it takes connections.
    pub fn launch(&self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.dir.join("log"));
        let log = log.expect("open the server's log");
        let server = process::command(program("postgres"), &self.dir)
            .arg("-D")
            .arg(self.data())
            .stdout(log.try_clone().expect("share the log"))
            .stderr(log)
            .spawn()
            .expect("start postgres");
        *self.server() = Some(server);
        self.wait_until_up();
    }

    /// Waits until connections are taken (again).
    pub fn wait_until_up(&self) {
        wait_until("PostgreSQL takes connections", START_LIMIT, || {
            self.config("postgres").connect(NoTls).is_ok()
        });
    }

    /// Kills the server and all its children at once, as a power cut does.
    pub fn kill_all(&self) {
        let mut server = self.server().take().expect("the server runs");
        server.kill().expect("kill the postmaster");
        server.wait().expect("wait for the postmaster");
        wait_until("all server processes are gone", START_LIMIT, || {
            let left = process::processes_in(&self.data());
            for &pid in &left {
                // It may have ended by itself meanwhile.
                let _ = std::process::Command::new("kill")
                    .args(["-KILL", &pid.to_string()])
                    .stderr(Stdio::null())
                    .status();
            }
            left.is_empty()
        });
    }

    /// A connection of the superuser.
    pub fn connect(&self) -> Session {
        self.connect_as("postgres")
    }

    /// A connection of this role.
    pub fn connect_as(&self, role: &str) -> Session {
        self.connect_to(role, DATABASE)
    }

    pub fn connect_to(&self, role: &str, database: &str) -> Session {
        let client = self.config(role).dbname(database).connect(NoTls);
        Session::new(client.unwrap_or_else(|error| panic!("connect as {role}: {error:?}")))
    }

    /// `program` of the PostgreSQL under test, with the options that lead it here.
    pub fn client_program(&self, name: &str) -> std::process::Command {
        let mut command = process::command(program(name), &self.dir);
        command.arg("-h").arg(&self.dir).args(["-U", "postgres"]);
        command
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn master_key_file(&self) -> PathBuf {
        self.dir.join("master.key")
    }

    /// All that the server logged.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.dir.join("log")).expect("read the server's log");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn init(&self, settings: &Settings) {
        let data = self.data();
        process::run(
            process::command(program("initdb"), &self.dir)
                .arg("-D")
                .arg(&data)
                .args([
                    "-U",
                    "postgres",
                    "--encoding=UTF8",
                    "--locale=C.UTF-8",
                    "--no-sync",
                ])
                // The directory above is open to the servers' user alone.
                .arg("--auth=trust"),
        );
        let mut text = fs::read_to_string(data.join("postgresql.conf")).expect("read the settings");
        text.push_str(&self.settings(settings));
        process::write_file(&data.join("postgresql.conf"), &text, 0o600);
        // The workers look for their database as soon as the server starts.
        let create = self.dir.join("create.sql");
        process::write_file(&create, &format!("create database {DATABASE};\n"), 0o600);
        process::run(
            process::command(program("postgres"), &self.dir)
                .arg("--single")
                .arg("-D")
                .arg(&data)
                .arg("postgres")
                .stdin(File::open(create).expect("open the script")),
        );
    }

    fn settings(&self, settings: &Settings) -> String {
        let on_off = if settings.durable { "on" } else { "off" };
        let libraries = if settings.preload { "pg_salesai" } else { "" };
        let databases = if settings.worker { DATABASE } else { "" };
        format!(
            "listen_addresses = ''
unix_socket_directories = '{dir}'
shared_buffers = '{shared_buffers}'
fsync = {on_off}
synchronous_commit = {on_off}
full_page_writes = {on_off}
log_line_prefix = '%m [%p] '
log_min_error_statement = fatal
shared_preload_libraries = '{libraries}'
salesai.sidecar_socket = '{socket}'
salesai.master_key_file = '{key}'
salesai.worker_databases = '{databases}'
salesai.timeout_ms = '{timeout_s}s'
salesai.result_cache = off
",
            dir = self.dir.display(),
            shared_buffers = settings.shared_buffers,
            socket = settings.sidecar_socket.display(),
            key = self.master_key_file().display(),
            timeout_s = MODEL_CALL_LIMIT.as_secs(),
        )
    }

    fn config(&self, role: &str) -> postgres::Config {
        let mut config = postgres::Config::new();
        config
            .host_path(&self.dir)
            .user(role)
            .connect_timeout(Duration::from_secs(10));
        config
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn server(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.server
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(mut server) = self.server().take() {
            process::signal("-QUIT", server.id());
            let _ = server.wait();
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn program(name: &str) -> PathBuf {
    config().postgres.join("bin").join(name)
}
