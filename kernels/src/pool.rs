//! Threads that share one computation after another: they look for work for a short while, then sleep.
//!
//! The machine also runs PostgreSQL. Work is handed out in small pieces, and whoever comes late finds
//! the rest or nothing: a thread whose core is taken by somebody else delays only the piece it is at.

#![allow(unsafe_code)]

use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, TryLockError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use super::parts::Parted;

/// How long a thread without work looks for more before it sleeps.
const SPIN: Duration = Duration::from_micros(30);
/// Looks between two questions for the time.
const LOOKS: usize = 64;

/// A computation in pieces 0 to `count` - 1.
type Work<'a> = dyn Fn(usize) + Sync + 'a;

/// The threads.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<Worker>,
    /// One computation at a time.
    turn: Mutex<()>,
}

struct Worker {
    thread: Thread,
    handle: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// Number of the computation (upper half), whether it is open (`OPEN`), and how many workers are
    /// in it (the rest).
    gate: AtomicU64,
    /// Where a `Job` lies while the gate is open or somebody is in it.
    job: AtomicPtr<Job>,
    sleeping: AtomicUsize,
}

struct Job {
    work: *const Work<'static>,
    count: usize,
    next: AtomicUsize,
    panicked: AtomicUsize,
}

const OPEN: u64 = 1 << 31;
const STOPPED: u64 = u64::MAX;

impl Pool {
    /// The pool of this process, with as many threads as its settings ask for.
    pub fn global() -> &'static Self {
        static POOL: LazyLock<Pool> = LazyLock::new(|| Pool::new(rayon::current_num_threads()));
        &POOL
    }

    /// A pool of `threads` threads, the caller among them.
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared::default());
        let workers = (1..threads).filter_map(|_| {
            let shared = shared.clone();
            let body = move || shared.serve();
            // With fewer threads the work is only slower.
            let handle = thread::Builder::new()
                .name("compute".into())
                .spawn(body)
                .ok()?;
            Some(Worker {
                thread: handle.thread().clone(),
                handle: Some(handle),
            })
        });
        Self {
            workers: workers.collect(),
            shared,
            turn: Mutex::new(()),
        }
    }

    /// Its threads, the caller among them.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `work` with the number and the data of each part, in any order, and returns when all are
    /// done.
    pub(super) fn for_each<P: Parted>(&self, parts: P, work: impl Fn(usize, P::Part) + Sync) {
        let take = |index| {
            // SAFETY: `run` calls with each number once.
            work(index, unsafe { parts.part(index) });
        };
        self.run(parts.count(), &take);
    }

    /// Calls `work` with 0 to `count` - 1, each once, in any order, and returns when all are done.
    pub fn run(&self, count: usize, work: &Work<'_>) {
        let turn = match self.turn.try_lock() {
            Ok(turn) => Some(turn),
            Err(TryLockError::Poisoned(turn)) => Some(PoisonError::into_inner(turn)),
            // The other threads are at somebody else's computation.
            Err(TryLockError::WouldBlock) => None,
        };
        if count <= 1 || self.workers.is_empty() || turn.is_none() {
            (0..count).for_each(work);
            return;
        }
        // SAFETY: the pointer is used only while this call waits: `close` returns when no worker is in.
        let work = unsafe { std::mem::transmute::<&Work<'_>, &Work<'static>>(work) };
        let mut job = Job {
            work,
            count,
            next: AtomicUsize::new(0),
            panicked: AtomicUsize::new(0),
        };
        self.open(&mut job);
        let closing = Closing(self);
        job.share();
        drop(closing);
        assert!(
            job.panicked.load(Ordering::Relaxed) == 0,
            "a worker has panicked"
        );
    }

    fn open(&self, job: &mut Job) {
        self.shared.job.store(job, Ordering::Relaxed);
        let number = (self.shared.gate.load(Ordering::Relaxed) >> 32) + 1;
        self.shared
            .gate
            .store((number & 0x7fff_ffff) << 32 | OPEN, Ordering::SeqCst);
        if self.shared.sleeping.load(Ordering::SeqCst) > 0 {
            self.wake();
        }
    }

    fn wake(&self) {
        self.workers
            .iter()
            .for_each(|worker| worker.thread.unpark());
    }
}

/// Lets nobody in any more, and waits for those who are in: also when the caller's own piece panics.
struct Closing<'a>(&'a Pool);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        let gate = &self.0.shared.gate;
        gate.fetch_and(!OPEN, Ordering::AcqRel);
        let mut looks = 0;
        while gate.load(Ordering::Acquire) & (OPEN - 1) > 0 {
            looks += 1;
            if looks % 1024 == 0 {
                thread::yield_now();
            }
            std::hint::spin_loop();
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.gate.store(STOPPED, Ordering::SeqCst);
        self.wake();
        for worker in &mut self.workers {
            // A worker only ends by panicking outside of a piece, which nothing there can do.
            worker.handle.take().map(JoinHandle::join);
        }
    }
}

impl Job {
    /// Does pieces until there are no more.
    fn share(&self) {
        loop {
            let piece = self.next.fetch_add(1, Ordering::Relaxed);
            if piece >= self.count {
                return;
            }
            // SAFETY: `run` keeps the closure alive until everybody has left.
            unsafe { (*self.work)(piece) };
        }
    }
}

impl Shared {
    /// The life of a worker.
    fn serve(&self) {
        let mut last = 0;
        loop {
            let gate = self.wait(last);
            if gate == STOPPED {
                return;
            }
            last = gate >> 32;
            self.enter(gate);
        }
    }

    /// Waits until a computation after the one with the number `last` is open.
    fn wait(&self, last: u64) -> u64 {
        let is_new = |gate: u64| gate == STOPPED || (gate & OPEN > 0 && gate >> 32 != last);
        loop {
            let start = Instant::now();
            while start.elapsed() < SPIN {
                for _ in 0..LOOKS {
                    let gate = self.gate.load(Ordering::Acquire);
                    if is_new(gate) {
                        return gate;
                    }
                    std::hint::spin_loop();
                }
            }
            self.sleeping.fetch_add(1, Ordering::SeqCst);
            // Looked at once more: whoever opens the gate after this sees that somebody sleeps.
            if !is_new(self.gate.load(Ordering::SeqCst)) {
                thread::park();
            }
            self.sleeping.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Takes part in the computation that was open, if it still is.
    fn enter(&self, seen: u64) {
        let number = seen >> 32;
        let may_enter = |gate: u64| {
            let is_open = gate != STOPPED && gate & OPEN > 0 && gate >> 32 == number;
            is_open.then_some(gate + 1)
        };
        let entered = self
            .gate
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, may_enter);
        if entered.is_err() {
            return;
        }
        let job = self.job.load(Ordering::Relaxed);
        let share = || {
            // SAFETY: the job lives as long as somebody is in the gate.
            unsafe { &*job }.share();
        };
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(share)).is_err() {
            // SAFETY: as above.
            unsafe { &*job }.panicked.fetch_add(1, Ordering::Relaxed);
        }
        self.gate.fetch_sub(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    //! Goal: every piece is done exactly once, by any number of threads and callers, and a panic in a
    //! piece reaches the caller without harming later computations.

    use std::sync::atomic::AtomicU32;

    use super::*;

    fn check(pool: &Pool, count: usize) {
        let done: Vec<AtomicU32> = (0..count).map(|_| AtomicU32::new(0)).collect();
        pool.run(count, &|piece| {
            done[piece].fetch_add(1, Ordering::Relaxed);
        });
        assert!(done.iter().all(|times| times.load(Ordering::Relaxed) == 1));
    }

    #[test]
    fn every_piece_is_done_once() {
        for threads in [1, 2, 5] {
            let pool = Pool::new(threads);
            for round in 0..2000 {
                check(&pool, round % 37);
            }
            // Long enough for the workers to fall asleep.
            thread::sleep(SPIN * 100);
            check(&pool, 1000);
        }
    }

    #[test]
    fn callers_do_not_disturb_each_other() {
        let pool = Pool::new(3);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..500).for_each(|round| check(&pool, round % 50)));
            }
        });
    }

    #[test]
    fn a_panic_reaches_the_caller() {
        let pool = Pool::new(3);
        for panicking in [0, 50, 99] {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                pool.run(100, &|piece| assert!(piece != panicking));
            }));
            assert!(result.is_err());
            check(&pool, 100);
        }
    }
}
