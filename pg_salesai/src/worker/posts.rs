//! Who works where, in shared memory: the launcher starts whom it misses here, commits wake who is here, and a build
//! that holds up a command is found here.

use std::cell::Cell;
use std::hash::{DefaultHasher, Hash, Hasher};

use pgrx::prelude::*;
use pgrx::{
    PGRXSharedMemory, PgLwLock, PgXactCallbackEvent, pg_shmem_init, register_xact_callback,
};
use rustix::process::{Pid, Signal, kill_process};

/// Processes that can be here: of 8 databases, each with 16 workers and one that builds indexes.
const POSTS: usize = 8 * 17;

/// One process's task.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Task {
    /// Leases jobs for models; numbers count from 0.
    Work(i32),
    BuildIndexes,
}

#[derive(Clone, Copy, Default)]
struct Post {
    /// Hash of database and task; names may be long.
    key: u64,
    /// 0 while the post is free.
    pid: i32,
    /// Address of the process's latch. Latches lie in shared memory at the same address everywhere, and one that
    /// changed hands is merely woken for nothing.
    latch: usize,
    /// Whether it builds an index, outside any transaction of ours.
    is_building: bool,
}

struct Posts([Post; POSTS]);

impl Default for Posts {
    fn default() -> Self {
        Self([Post::default(); POSTS])
    }
}

// SAFETY: plain numbers.
#[allow(unsafe_code)]
unsafe impl PGRXSharedMemory for Posts {}

// SAFETY: the name is unique to this extension.
#[allow(unsafe_code)]
static TABLE: PgLwLock<Posts> = unsafe { PgLwLock::new(c"pg_salesai workers") };

thread_local! {
    /// Whether this transaction has asked for a wake-up already.
    static IS_ASKED: Cell<bool> = const { Cell::new(false) };
    /// Whether the library was preloaded, so that there are posts at all.
    static HAS_POSTS: Cell<bool> = const { Cell::new(false) };
}

/// Reserves the shared memory; called while the postmaster preloads the library.
// The macro asks for features of every PostgreSQL that pgrx knows.
#[allow(unsafe_code, unexpected_cfgs)]
pub fn register() {
    pg_shmem_init!(TABLE);
    // Inherited by every process that the postmaster forks.
    HAS_POSTS.set(true);
}

/// Takes the post for this process until it ends; false when another process has it, or none is left.
pub fn take(database: &str, task: Task) -> bool {
    let key = key(database, task);
    let mut posts = TABLE.exclusive();
    if posts.0.iter().any(|post| post.pid != 0 && post.key == key) {
        return false;
    }
    let Some(free) = posts.0.iter_mut().find(|post| post.pid == 0) else {
        return false;
    };
    // SAFETY: both are set once a process is initialised.
    #[allow(unsafe_code)]
    let (pid, latch) = unsafe { (pg_sys::MyProcPid, pg_sys::MyLatch as usize) };
    *free = Post {
        key,
        pid,
        latch,
        is_building: false,
    };
    drop(posts);
    // SAFETY: a function of this library, which stays loaded.
    #[allow(unsafe_code)]
    unsafe {
        pg_sys::before_shmem_exit(Some(give_up), pg_sys::Datum::from(0));
    }
    true
}

// PostgreSQL calls it at the end of the process.
#[allow(unsafe_code)]
#[pg_guard]
unsafe extern "C-unwind" fn give_up(_code: std::ffi::c_int, _argument: pg_sys::Datum) {
    own(|post| *post = Post::default());
}

pub fn is_taken(database: &str, task: Task) -> bool {
    let key = key(database, task);
    let posts = TABLE.share();
    posts.0.iter().any(|post| post.pid != 0 && post.key == key)
}

/// Notes whether this process builds an index now.
pub fn set_building(is_building: bool) {
    own(|post| post.is_building = is_building);
}

/// Cancels the build of an index in this database: somebody waits for what it has locked. It is tried again later,
/// if there is still something to build.
pub fn cancel_index_build(database: &str) {
    if !HAS_POSTS.get() {
        return;
    }
    let key = key(database, Task::BuildIndexes);
    let posts = TABLE.share();
    let builder = posts.0.iter().find(|post| post.key == key);
    if let Some(post) = builder.filter(|post| post.pid != 0 && post.is_building) {
        // A process that ends gives up its post under the lock, so the number is its own.
        let pid = Pid::from_raw(post.pid);
        let _ = pid.map(|pid| kill_process(pid, Signal::INT));
    }
}

fn own(change: impl FnOnce(&mut Post)) {
    // SAFETY: set once a process is initialised.
    #[allow(unsafe_code)]
    let pid = unsafe { pg_sys::MyProcPid };
    let mut posts = TABLE.exclusive();
    if let Some(post) = posts.0.iter_mut().find(|post| post.pid == pid) {
        change(post);
    }
}

fn key(database: &str, task: Task) -> u64 {
    let mut hasher = DefaultHasher::new();
    (database, task).hash(&mut hasher);
    hasher.finish()
}

/// Wakes the workers after the present transaction commits; nothing happens when it does not.
pub fn wake_at_commit() {
    if !HAS_POSTS.get() || IS_ASKED.replace(true) {
        return;
    }
    register_xact_callback(PgXactCallbackEvent::Commit, || {
        IS_ASKED.set(false);
        wake();
    });
    register_xact_callback(PgXactCallbackEvent::Abort, || IS_ASKED.set(false));
}

fn wake() {
    let posts = TABLE.share();
    for post in posts.0.iter().filter(|post| post.pid != 0) {
        // SAFETY: the address of a latch in shared memory, which outlives every process.
        #[allow(unsafe_code)]
        unsafe {
            pg_sys::SetLatch(post.latch as *mut pg_sys::Latch);
        }
    }
}
