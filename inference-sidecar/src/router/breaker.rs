//! The circuit breaker of one upstream: after repeated failures it gets no requests, then health checks
//! probe it, then one request at a time tries it. Pure state; the caller tells the time.

use std::time::{Duration, Instant};

/// When to open, and for how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct BreakerSettings {
    pub failures_max: u32,
    pub backoff: Duration,
    pub backoff_max: Duration,
}

/// What a breaker lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Everything.
    Closed,
    /// One request at a time: the health check passed, and a real answer is awaited.
    HalfOpen,
    /// Nothing.
    Open,
}

/// Counts failures in a row, of requests and of health checks apart: an upstream may well answer its
/// health check and fail every request.
#[derive(Debug)]
pub(super) struct Breaker {
    settings: BreakerSettings,
    state: State,
    failed_requests: u32,
    failed_checks: u32,
    /// How long the next opening lasts.
    backoff: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    Open { until: Instant },
    HalfOpen { is_tried: bool },
}

impl Breaker {
    pub fn new(settings: BreakerSettings) -> Self {
        Self {
            settings,
            state: State::Closed,
            failed_requests: 0,
            failed_checks: 0,
            backoff: settings.backoff,
        }
    }

    pub fn state(&self) -> BreakerState {
        match self.state {
            State::Closed => BreakerState::Closed,
            State::Open { .. } => BreakerState::Open,
            State::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    /// True when a request may go there now.
    pub fn is_passable(&self) -> bool {
        matches!(
            self.state,
            State::Closed | State::HalfOpen { is_tried: false }
        )
    }

    /// Notes that a request goes there; it must end in one of the three calls below.
    pub fn request_started(&mut self) {
        if let State::HalfOpen { is_tried } = &mut self.state {
            *is_tried = true;
        }
    }

    /// The upstream sent a token.
    pub fn request_succeeded(&mut self) {
        self.failed_requests = 0;
        // An answer that began before the breaker opened does not close it.
        if !matches!(self.state, State::Open { .. }) {
            self.state = State::Closed;
            self.failed_checks = 0;
            self.backoff = self.settings.backoff;
        }
    }

    /// The upstream failed a request. True when that opened the breaker.
    pub fn request_failed(&mut self, now: Instant) -> bool {
        self.failed_requests = self.failed_requests.saturating_add(1);
        match self.state {
            State::Closed if self.failed_requests < self.settings.failures_max => false,
            State::Closed | State::HalfOpen { .. } => self.open(now),
            State::Open { .. } => false,
        }
    }

    /// The request ended without a verdict on the upstream.
    pub fn request_abandoned(&mut self) {
        if let State::HalfOpen { is_tried } = &mut self.state {
            *is_tried = false;
        }
    }

    /// When the next health check makes sense; None: as usual.
    pub fn check_due(&self) -> Option<Instant> {
        match self.state {
            State::Open { until } => Some(until),
            _ => None,
        }
    }

    /// The upstream passed a health check.
    pub fn check_passed(&mut self, now: Instant) {
        self.failed_checks = 0;
        if matches!(self.state, State::Open { until } if now >= until) {
            self.state = State::HalfOpen { is_tried: false };
        }
    }

    /// The upstream failed a health check. True when that opened the breaker.
    pub fn check_failed(&mut self, now: Instant) -> bool {
        self.failed_checks = self.failed_checks.saturating_add(1);
        match self.state {
            State::Closed if self.failed_checks < self.settings.failures_max => false,
            State::Closed | State::HalfOpen { .. } => self.open(now),
            State::Open { until } => {
                if now >= until {
                    self.open(now);
                }
                false
            }
        }
    }

    fn open(&mut self, now: Instant) -> bool {
        self.state = State::Open {
            until: now + self.backoff,
        };
        self.backoff = (self.backoff * 2).min(self.settings.backoff_max);
        true
    }
}

#[cfg(test)]
mod tests {
    //! Goal: the breaker opens after failures in a row and only then, lets one request try at a time,
    //! and waits longer each time it is disappointed, up to the cap.

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn breaker() -> Breaker {
        Breaker::new(BreakerSettings {
            failures_max: 3,
            backoff: SECOND,
            backoff_max: 5 * SECOND,
        })
    }

    fn opened(now: Instant) -> Breaker {
        let mut breaker = breaker();
        let opened: Vec<_> = (0..3).map(|_| breaker.request_failed(now)).collect();
        assert_eq!(opened, [false, false, true]);
        breaker
    }

    #[test]
    fn only_failures_in_a_row_open_it() {
        let now = Instant::now();
        let mut breaker = breaker();
        for _ in 0..10 {
            assert!(!breaker.request_failed(now) && !breaker.request_failed(now));
            breaker.request_succeeded();
            assert!(!breaker.check_failed(now) && !breaker.check_failed(now));
            breaker.check_passed(now);
        }
        assert!(breaker.is_passable());
        // A passed health check does not excuse failed requests.
        breaker.request_failed(now);
        breaker.request_failed(now);
        breaker.check_passed(now);
        assert!(breaker.request_failed(now));
        assert!(!breaker.is_passable());
    }

    #[test]
    fn a_check_and_then_one_request_close_it() {
        let now = Instant::now();
        let mut breaker = opened(now);
        breaker.check_passed(now + SECOND / 2);
        assert_eq!(breaker.state(), BreakerState::Open, "too early");
        assert_eq!(breaker.check_due(), Some(now + SECOND));
        breaker.check_passed(now + SECOND);
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        assert!(breaker.is_passable());
        breaker.request_started();
        assert!(!breaker.is_passable(), "one at a time");
        breaker.request_abandoned();
        assert!(breaker.is_passable());
        breaker.request_started();
        breaker.request_succeeded();
        assert_eq!(breaker.state(), BreakerState::Closed);
        assert!(!breaker.request_failed(now), "counts from the start again");
    }

    #[test]
    fn waits_longer_each_time() {
        let mut now = Instant::now();
        let mut breaker = opened(now);
        for seconds in [1, 2, 4, 5, 5] {
            let until = breaker.check_due().unwrap();
            assert_eq!(until - now, seconds * SECOND);
            breaker.check_failed(until - SECOND / 2);
            assert_eq!(
                breaker.check_due(),
                Some(until),
                "an early check changes nothing"
            );
            now = until;
            breaker.check_failed(now);
        }
        // A health check that passes before a request that fails does not reset the wait.
        now = breaker.check_due().unwrap();
        breaker.check_passed(now);
        breaker.request_started();
        assert!(breaker.request_failed(now));
        assert_eq!(breaker.check_due(), Some(now + 5 * SECOND));
        breaker.check_passed(now + 5 * SECOND);
        breaker.request_started();
        breaker.request_succeeded();
        let opened = (0..3).map(|_| breaker.request_failed(now)).last();
        assert_eq!(
            (opened, breaker.check_due()),
            (Some(true), Some(now + SECOND))
        );
    }

    #[test]
    fn an_answer_from_before_does_not_close_it() {
        let now = Instant::now();
        let mut breaker = opened(now);
        breaker.request_succeeded();
        assert_eq!(breaker.state(), BreakerState::Open);
    }
}
