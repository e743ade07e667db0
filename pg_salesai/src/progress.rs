//! What sessions ask models about many texts now, in shared memory, for `salesai.operator_progress()`.

use std::cell::Cell;

use pgrx::prelude::*;
use pgrx::{PGRXSharedMemory, PgLwLock, pg_shmem_init};

/// Sessions that can be here at a time; one more is not shown.
const ENTRIES: usize = 256;
/// Bytes of an operator's name.
const NAME_MAX: usize = 16;

/// One session's call.
#[derive(Clone, Copy, Default)]
struct Entry {
    /// 0 while the entry is free.
    pid: i32,
    database: pg_sys::Oid,
    /// The session's role.
    role: pg_sys::Oid,
    name: [u8; NAME_MAX],
    progress: Progress,
}

/// How far a call is.
#[derive(Clone, Copy, Default)]
pub struct Progress {
    /// When it began, as PostgreSQL counts: microseconds since 2000.
    pub started_at: i64,
    /// Texts of the call, equal ones once, and those that have an answer or failed.
    pub texts: i64,
    pub done: i64,
    /// Answers to calls of the same statement before.
    pub done_before: i64,
}

struct Entries([Entry; ENTRIES]);

impl Default for Entries {
    fn default() -> Self {
        Self([Entry::default(); ENTRIES])
    }
}

// SAFETY: plain numbers.
#[allow(unsafe_code)]
unsafe impl PGRXSharedMemory for Entries {}

// SAFETY: the name is unique to this extension.
#[allow(unsafe_code)]
static TABLE: PgLwLock<Entries> = unsafe { PgLwLock::new(c"pg_salesai progress") };

thread_local! {
    /// Whether the library was preloaded, so that there is a table at all.
    static HAS_TABLE: Cell<bool> = const { Cell::new(false) };
    /// Whether this process gives up its entry when it ends.
    static IS_CAREFUL: Cell<bool> = const { Cell::new(false) };
    /// The statement that asked last, by its beginning, and its answers.
    static STATEMENT: Cell<(i64, i64)> = const { Cell::new((0, 0)) };
}

/// Reserves the shared memory; called while the postmaster preloads the library.
// The macro asks for features of every PostgreSQL that pgrx knows.
#[allow(unsafe_code, unexpected_cfgs)]
pub fn register() {
    pg_shmem_init!(TABLE);
    // Inherited by every process that the postmaster forks.
    HAS_TABLE.set(true);
}

/// A call that is shown until it is dropped.
pub struct Shown;

impl Shown {
    /// Shows a call about so many texts; of calls within a call, the innermost.
    pub fn begin(operator: &str, texts: usize) -> Self {
        if HAS_TABLE.get() {
            give_up_at_exit();
            let entry = entry(operator, texts);
            let mut entries = TABLE.exclusive();
            let own = entries.0.iter().position(|other| other.pid == entry.pid);
            let free = || entries.0.iter().position(|other| other.pid == 0);
            if let Some(at) = own.or_else(free) {
                entries.0[at] = entry;
            }
        }
        Self
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        own(|entry| {
            let (statement, done) = STATEMENT.get();
            STATEMENT.set((statement, done + entry.progress.done));
            *entry = Entry::default();
        });
    }
}

/// Counts answers for the call that is shown, if one is.
pub fn advance(answers: usize) {
    own(|entry| entry.progress.done += i64::try_from(answers).unwrap_or(0));
}

/// Calls of this database that the present role may see, as with `pg_stat_activity`: its own roles' and, with
/// `pg_read_all_stats`, everybody's. Process, operator, how far it is.
pub fn visible() -> Vec<(i32, String, Progress)> {
    if !HAS_TABLE.get() {
        return Vec::new();
    }
    let entries = TABLE.share().0;
    // SAFETY: set once a process is initialised.
    #[allow(unsafe_code)]
    let database = unsafe { pg_sys::MyDatabaseId };
    let shown = entries
        .iter()
        .filter(|entry| entry.pid != 0 && entry.database == database && may_see(entry.role));
    shown
        .map(|entry| {
            let name = entry.name.split(|byte| *byte == 0).next();
            let name = String::from_utf8_lossy(name.unwrap_or_default()).into_owned();
            (entry.pid, name, entry.progress)
        })
        .collect()
}

fn may_see(role: pg_sys::Oid) -> bool {
    // SAFETY: a look into the catalog.
    #[allow(unsafe_code)]
    unsafe {
        let asker = pg_sys::GetUserId();
        let statistics = pg_sys::Oid::from(pg_sys::ROLE_PG_READ_ALL_STATS);
        pg_sys::has_privs_of_role(asker, role) || pg_sys::has_privs_of_role(asker, statistics)
    }
}

fn entry(operator: &str, texts: usize) -> Entry {
    let mut name = [0; NAME_MAX];
    let length = operator.floor_char_boundary(NAME_MAX);
    name[..length].copy_from_slice(&operator.as_bytes()[..length]);
    // SAFETY: set once a process is initialised.
    #[allow(unsafe_code)]
    let (pid, database, role, statement, now) = unsafe {
        (
            pg_sys::MyProcPid,
            pg_sys::MyDatabaseId,
            pg_sys::GetSessionUserId(),
            pg_sys::GetCurrentStatementStartTimestamp(),
            pg_sys::GetCurrentTimestamp(),
        )
    };
    let done_before = match STATEMENT.get() {
        (last, done) if last == statement => done,
        _ => 0,
    };
    STATEMENT.set((statement, done_before));
    Entry {
        pid,
        database,
        role,
        name,
        progress: Progress {
            started_at: now,
            texts: i64::try_from(texts).unwrap_or(i64::MAX),
            done: 0,
            done_before,
        },
    }
}

fn own(change: impl FnOnce(&mut Entry)) {
    if !IS_CAREFUL.get() {
        return;
    }
    // SAFETY: set once a process is initialised.
    #[allow(unsafe_code)]
    let pid = unsafe { pg_sys::MyProcPid };
    let mut entries = TABLE.exclusive();
    if let Some(entry) = entries.0.iter_mut().find(|entry| entry.pid == pid) {
        change(entry);
    }
}

/// A process that is terminated drops nothing.
fn give_up_at_exit() {
    if !IS_CAREFUL.replace(true) {
        // SAFETY: a function of this library, which stays loaded.
        #[allow(unsafe_code)]
        unsafe {
            pg_sys::before_shmem_exit(Some(give_up), pg_sys::Datum::from(0));
        }
    }
}

// PostgreSQL calls it at the end of the process.
#[allow(unsafe_code)]
#[pg_guard]
unsafe extern "C-unwind" fn give_up(_code: std::ffi::c_int, _argument: pg_sys::Datum) {
    own(|entry| *entry = Entry::default());
}
