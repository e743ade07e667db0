//! What the scheduler must know of a request: who asks, until when, how urgent.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use proto::model::Priority;

/// The name of a request in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(String);

/// One request, as far as queues and workers care.
#[derive(Debug, Clone)]
pub struct Call {
    pub request_id: RequestId,
    /// Name of the model that does the work.
    pub model: String,
    pub priority: Priority,
    pub received: Instant,
    /// None: the caller waits for as long as it takes.
    pub deadline: Option<Instant>,
}

impl RequestId {
    /// The caller's own id when it is printable and short, else a fresh one.
    pub fn new(of_caller: Option<&str>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        match of_caller {
            Some(id)
                if (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic()) =>
            {
                Self(id.to_owned())
            }
            _ => Self(format!("local-{}", NEXT.fetch_add(1, Ordering::Relaxed))),
        }
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Call {
    /// A request that arrives now.
    pub fn new(
        request_id: RequestId,
        model: &str,
        priority: Priority,
        timeout: Option<Duration>,
    ) -> Self {
        let received = Instant::now();
        // A timeout beyond what the clock can express is no deadline.
        let deadline = timeout.and_then(|timeout| received.checked_add(timeout));
        Self {
            request_id,
            model: model.to_owned(),
            priority,
            received,
            deadline,
        }
    }

    pub fn is_expired(&self) -> bool {
        self.deadline
            .is_some_and(|deadline| Instant::now() >= deadline)
    }
}

#[cfg(test)]
mod tests {
    //! Goal: nothing but short printable ids of callers reaches the log.

    use super::*;

    #[test]
    fn request_ids() {
        assert_eq!(RequestId::new(Some("job-17")).to_string(), "job-17");
        for bad in ["", "two words", "ümlaut", &"x".repeat(65)] {
            assert!(RequestId::new(Some(bad)).to_string().starts_with("local-"));
        }
    }

    #[test]
    fn deadlines() {
        let call = |timeout| Call::new(RequestId::new(None), "m", Priority::Interactive, timeout);
        assert!(call(Some(Duration::ZERO)).is_expired());
        assert!(!call(Some(Duration::MAX)).is_expired());
        assert!(!call(None).is_expired());
    }
}
