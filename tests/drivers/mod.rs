//! Ordinary drivers: each asks, streams, cancels, meets timeouts and prepares statements. They do so directly, and
//! through PgBouncer, which pools transactions and gives TLS to a PostgreSQL that has none.

mod sql;
mod tokio_client;

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use tests::cluster::{self, Cluster};
use tests::config::{config, repository};
use tests::deal_room;
use tests::pgbouncer::{self, PgBouncer};
use tests::world;

/// Longest run of one client, which asks a model a dozen times.
const CLIENT_LIMIT_S: &str = "600";
const ROLE: &str = "salesai_rep";
/// Something on which a model writes on and on.
const PROMPT: &str = "Write the numbers from one to one thousand in words, one on each line.";

/// What every client checks, by name.
const CHECKS: [&str; 8] = [
    "insight",
    "stream",
    "insight_stream",
    "cursor",
    "cancel",
    "statement_timeout",
    "timeout_ms",
    "prepared",
];
/// What clients of PgBouncer check besides.
const POOLED_CHECKS: [&str; 2] = ["role_ends_with_transaction", "other_authority_is_refused"];

/// Goal: psycopg 3 works with us.
#[test]
fn psycopg_directly() {
    if let Some(client) = python("psycopg_directly", "psycopg") {
        check(client, &Place::cluster(world::shared()));
    }
}

/// Goal: psycopg 3 works with us through a pooler that ends TLS.
#[test]
fn psycopg_through_pgbouncer() {
    let test = "psycopg_through_pgbouncer";
    if let (Some(client), Some(pooler)) = (python(test, "psycopg"), pgbouncer(test)) {
        check(client, &Place::pooler(&pooler));
    }
}

/// Goal: asyncpg works with us.
#[test]
fn asyncpg_directly() {
    if let Some(client) = python("asyncpg_directly", "asyncpg") {
        check(client, &Place::cluster(world::shared()));
    }
}

/// Goal: asyncpg works with us through a pooler that ends TLS.
#[test]
fn asyncpg_through_pgbouncer() {
    let test = "asyncpg_through_pgbouncer";
    if let (Some(client), Some(pooler)) = (python(test, "asyncpg"), pgbouncer(test)) {
        check(client, &Place::pooler(&pooler));
    }
}

/// Goal: node-postgres works with us.
#[test]
fn node_postgres_directly() {
    if let Some(client) = node("node_postgres_directly") {
        check(client, &Place::cluster(world::shared()));
    }
}

/// Goal: node-postgres works with us through a pooler that ends TLS.
#[test]
fn node_postgres_through_pgbouncer() {
    let test = "node_postgres_through_pgbouncer";
    if let (Some(client), Some(pooler)) = (node(test), pgbouncer(test)) {
        check(client, &Place::pooler(&pooler));
    }
}

/// Goal: tokio-postgres works with us.
#[test]
fn tokio_postgres_directly() {
    tokio_client::check(&Place::cluster(world::shared()));
}

/// Goal: tokio-postgres works with us through a pooler that ends TLS.
#[test]
fn tokio_postgres_through_pgbouncer() {
    if let Some(pooler) = pgbouncer("tokio_postgres_through_pgbouncer") {
        tokio_client::check(&Place::pooler(&pooler));
    }
}

/// Where a client connects.
struct Place {
    /// A host, or the directory of a Unix socket.
    host: String,
    port: u16,
    pooled: Option<Pooled>,
}

/// What a client of PgBouncer needs besides.
struct Pooled {
    authority: PathBuf,
    other_authority: PathBuf,
}

impl Place {
    fn cluster(cluster: &Cluster) -> Self {
        Self {
            host: cluster.dir().display().to_string(),
            port: 5432,
            pooled: None,
        }
    }

    fn pooler(pooler: &PgBouncer) -> Self {
        Self {
            host: pgbouncer::HOST.to_owned(),
            port: pooler.port(),
            pooled: Some(Pooled {
                authority: pooler.authority(),
                other_authority: pooler.other_authority(),
            }),
        }
    }

    fn checks(&self) -> Vec<&'static str> {
        let pooled = self.pooled.iter().flat_map(|_| POOLED_CHECKS);
        CHECKS.into_iter().chain(pooled).collect()
    }

    /// All that a client in another language is told.
    fn spec(&self) -> Value {
        let pooled = self.pooled.as_ref();
        json!({
            "host": self.host,
            "port": self.port,
            "user": pgbouncer::USER,
            "password": pooled.map(|_| pgbouncer::PASSWORD),
            "database": cluster::DATABASE,
            "single_database": pgbouncer::SINGLE_DATABASE,
            "authority": pooled.map(|pooled| &pooled.authority),
            "other_authority": pooled.map(|pooled| &pooled.other_authority),
            "role": ROLE,
            "prompt": PROMPT,
            "questions": questions(),
            "sql": sql::all(),
        })
    }
}

/// Two questions, each with its account.
fn questions() -> Vec<[String; 2]> {
    let questions = deal_room::questions();
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let of = |question: &Value| [text(&question["question"]), text(&question["account"])];
    questions.iter().take(2).map(of).collect()
}

/// Runs a client to its end; all its checks must have passed.
fn check(mut client: Command, place: &Place) {
    let output = client
        .env("SALESAI_DRIVER_TEST", place.spec().to_string())
        .output()
        .unwrap_or_else(|error| panic!("{client:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stdout);
    let outcomes: Vec<Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
        .collect();
    let passed: Vec<&str> = outcomes
        .iter()
        .filter(|outcome| outcome["ok"] == true)
        .filter_map(|outcome| outcome["check"].as_str())
        .collect();
    assert!(
        output.status.success() && passed == place.checks(),
        "{}\n{said}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The Python client of this driver, or `None`, after saying that `test` is skipped.
fn python(test: &str, driver: &str) -> Option<Command> {
    let packages = installed(test, "python", driver)?;
    let mut client = client("python3", &format!("{driver}_client.py"));
    client
        .env("PYTHONPATH", packages)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    Some(client)
}

/// The client of node-postgres, or `None`, after saying that `test` is skipped.
fn node(test: &str) -> Option<Command> {
    let packages = installed(test, "node_modules", "pg")?;
    let mut client = client("node", "node_client.js");
    client.env("NODE_PATH", packages);
    Some(client)
}

/// It runs as ourselves: the servers' user may not enter everybody's Python. It works in the directory of this run, so
/// that it ends with it.
fn client(interpreter: &str, file: &str) -> Command {
    let mut client = Command::new("timeout");
    client
        .args(["--signal=KILL", CLIENT_LIMIT_S, interpreter])
        .arg(repository().join("tests/drivers").join(file))
        .current_dir(world::shared().dir());
    client
}

/// PgBouncer before the shared cluster, or `None`, after saying that `test` is skipped.
fn pgbouncer(test: &str) -> Option<PgBouncer> {
    let program = installed(test, "bin", "pgbouncer")?.join("pgbouncer");
    Some(PgBouncer::start(&program, world::shared()))
}

/// The folder of what ops/local/drivers.sh has installed, if `name` is in it.
fn installed(test: &str, folder: &str, name: &str) -> Option<PathBuf> {
    let folder = config()
        .drivers
        .as_ref()
        .map(|drivers| drivers.join(folder));
    let found = folder.filter(|folder| folder.join(name).exists());
    if found.is_none() {
        println!("skipped: drivers::{test}: ops/local/drivers.sh could not install {name}");
    }
    found
}
