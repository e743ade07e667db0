//! Health checks in the background: one task per upstream, ended when the handle is dropped.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::breaker::BreakerState;
use super::route::Route;

/// The running checks; they end when this is dropped.
pub struct HealthChecks {
    _tasks: JoinSet<()>,
}

impl HealthChecks {
    /// Starts a check for every upstream of `routes`, on the current runtime.
    pub(super) fn start(routes: &[Arc<Route>]) -> Self {
        let mut tasks = JoinSet::new();
        for route in routes {
            for index in 0..route.upstreams.len() {
                tasks.spawn(watch(route.clone(), index));
            }
        }
        Self { _tasks: tasks }
    }
}

async fn watch(route: Arc<Route>, index: usize) {
    let upstream = &route.upstreams[index];
    loop {
        let load = route.load(index);
        // Requests show more than a check does, and some servers answer nothing else meanwhile.
        if load.running == 0 || load.breaker != BreakerState::Closed {
            let outcome = upstream.check_health().await;
            route.checked(index, outcome);
        }
        loop {
            let pause = match route.check_due(index) {
                Some(due) => due.saturating_duration_since(Instant::now()),
                None => jittered(upstream.patience.health_interval),
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => break,
                // The breaker has opened: the next check follows its clock.
                () = upstream.taken_out.notified() => {}
            }
        }
    }
}

/// Up to a fifth less or more, so that many sidecars do not ask at once.
fn jittered(interval: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64;
    interval.mul_f64(0.8 + 0.4 * random)
}
