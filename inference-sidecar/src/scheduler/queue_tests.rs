//! Goal: priority and order hold, the bound holds, and abandoned jobs neither run nor keep others out.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::*;
use crate::metrics::Metrics;
use crate::scheduler::RequestId;

struct TestJob {
    name: &'static str,
    call: Call,
    abandoned: Arc<AtomicBool>,
    failed: Arc<AtomicBool>,
}

impl Job for TestJob {
    fn call(&self) -> &Call {
        &self.call
    }

    fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
    }

    fn fail(&mut self, _: Error) {
        self.failed.store(true, Ordering::Relaxed);
    }
}

fn job(name: &'static str, priority: Priority) -> TestJob {
    let call = Call::new(RequestId::new(None), "m", priority, None);
    TestJob {
        name,
        call,
        abandoned: Arc::default(),
        failed: Arc::default(),
    }
}

fn queue(waiting_max: u32) -> JobQueue<TestJob> {
    queue_with(waiting_max, &Metrics::new())
}

fn queue_with(waiting_max: u32, metrics: &Metrics) -> JobQueue<TestJob> {
    let requests = metrics.language("m").requests().clone();
    JobQueue::new(Arc::new(Counters::new(waiting_max)), requests)
}

#[test]
fn interactive_jobs_overtake_and_keep_their_order() {
    let queue = queue(8);
    for (name, priority) in [
        ("b1", Priority::Background),
        ("i1", Priority::Interactive),
        ("b2", Priority::Background),
        ("i2", Priority::Interactive),
    ] {
        queue.push(job(name, priority)).unwrap();
    }
    let order: Vec<_> = (0..4).map(|_| queue.pop().unwrap().name).collect();
    assert_eq!(order, ["i1", "i2", "b1", "b2"]);
    assert_eq!(queue.counters().load().waiting, 0);
}

#[test]
fn a_full_queue_refuses_until_a_waiting_caller_leaves() {
    let queue = queue(1);
    let first = job("first", Priority::Background);
    let abandoned = first.abandoned.clone();
    queue.push(first).unwrap();
    let refused = queue.push(job("second", Priority::Interactive));
    assert!(matches!(refused, Err(Error::QueueFull { .. })));
    abandoned.store(true, Ordering::Relaxed);
    queue.push(job("third", Priority::Interactive)).unwrap();
    assert_eq!(queue.pop().unwrap().name, "third");
    let load = queue.counters().load();
    assert_eq!((load.refused, load.cancelled, load.waiting), (1, 1, 0));
}

#[test]
fn an_expired_job_fails_instead_of_running() {
    let queue = queue(2);
    let mut late = job("late", Priority::Interactive);
    late.call.deadline = Some(late.call.received);
    let failed = late.failed.clone();
    queue.push(late).unwrap();
    queue.push(job("fresh", Priority::Background)).unwrap();
    assert_eq!(queue.pop().unwrap().name, "fresh");
    assert!(failed.load(Ordering::Relaxed));
}

#[test]
fn closing_fails_waiting_jobs_and_wakes_the_worker() {
    let queue = Arc::new(queue(2));
    let waiting = job("waiting", Priority::Interactive);
    let failed = waiting.failed.clone();
    queue.push(waiting).unwrap();
    queue.close();
    assert!(failed.load(Ordering::Relaxed));
    assert!(queue.pop().is_none());
    assert!(matches!(
        queue.push(job("late", Priority::Interactive)),
        Err(Error::Stopping)
    ));

    let idle = Arc::new(super::tests::queue(2));
    let worker = std::thread::spawn({
        let idle = idle.clone();
        move || idle.pop().is_none()
    });
    std::thread::sleep(Duration::from_millis(20));
    idle.close();
    assert!(worker.join().unwrap());
}

#[test]
fn what_ends_while_it_waits_is_counted_once() {
    let metrics = Metrics::new();
    let queue = queue_with(8, &metrics);
    let mut late = job("late", Priority::Interactive);
    late.call.deadline = Some(late.call.received);
    let left = job("left", Priority::Background);
    left.abandoned.store(true, Ordering::Relaxed);
    let mut both = job("both", Priority::Background);
    both.call.deadline = Some(both.call.received);
    both.abandoned.store(true, Ordering::Relaxed);
    for job in [late, left, both, job("wanted", Priority::Background)] {
        queue.push(job).unwrap();
    }
    queue.drop_all_unwanted();
    queue.drop_all_unwanted();
    assert_eq!(queue.pop().unwrap().name, "wanted");
    let text = metrics.render();
    for line in [
        "salesai_requests_cancelled_total{model=\"m\"} 2\n",
        "salesai_requests_finished_total{model=\"m\",reason=\"deadline_exceeded\"} 1\n",
        "salesai_e2e_request_latency_seconds_count{model=\"m\"} 1\n",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    assert_eq!(queue.counters().load().cancelled, 3);
}
