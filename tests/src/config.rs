//! What the environment says; `make test` sets it (ops/local/test.sh).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

/// Where the pieces under test are, and who runs them.
pub struct Config {
    /// A PostgreSQL installation (`bin/postgres`, ...) with the extension installed.
    pub postgres: PathBuf,
    pub sidecar: PathBuf,
    pub embedding_model: PathBuf,
    pub language_model: PathBuf,
    /// The drivers of other languages and PgBouncer, as ops/local/drivers.sh installs them; tests say what is missing.
    pub drivers: Option<PathBuf>,
    /// Whom to run servers as; `None`: ourselves.
    pub run_user: Option<RunUser>,
    /// How long the sidecar stands still in `no_snapshot`.
    pub stall: Duration,
    /// Write the golden files anew instead of comparing.
    pub update_golden: bool,
}

/// An unprivileged user, because PostgreSQL refuses root.
#[derive(Debug, Clone, Copy)]
pub struct RunUser {
    pub uid: u32,
    pub gid: u32,
}

/// The configuration of this process; panics when `make test` did not set it.
pub fn config() -> &'static Config {
    static CONFIG: OnceLock<Config> = OnceLock::new();
    CONFIG.get_or_init(|| Config {
        postgres: required("SALESAI_PG").into(),
        sidecar: required("SALESAI_SIDECAR").into(),
        embedding_model: required("SALESAI_EMBEDDING_MODEL").into(),
        language_model: required("SALESAI_LANGUAGE_MODEL").into(),
        drivers: variable("SALESAI_DRIVERS").map(PathBuf::from),
        run_user: variable("SALESAI_RUN_USER").map(|name| RunUser {
            uid: id("-u", &name),
            gid: id("-g", &name),
        }),
        stall: Duration::from_secs(
            variable("SALESAI_STALL_S").map_or(60, |seconds| seconds.parse().expect("a number")),
        ),
        update_golden: variable("SALESAI_UPDATE_GOLDEN").is_some(),
    })
}

/// The root of the checkout.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate lies in the repository")
}

/// A directory of the real data beside the checkout, or `None`, after saying that `test` is skipped.
pub fn shared_data(test: &str, name: &str) -> Option<PathBuf> {
    let dir = repository().join("../shared/data").join(name);
    if dir.is_dir() {
        return Some(dir);
    }
    println!("skipped: {test}: there is no ../shared/data/{name}");
    None
}

fn required(name: &str) -> String {
    variable(name).unwrap_or_else(|| panic!("{name} is not set: run these tests by `make test`"))
}

#[allow(clippy::disallowed_methods)] // This is the one place.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn id(option: &str, user: &str) -> u32 {
    let output = Command::new("id")
        .args([option, user])
        .output()
        .expect("run id");
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim()
        .parse()
        .unwrap_or_else(|_| panic!("there is no user {user}"))
}
