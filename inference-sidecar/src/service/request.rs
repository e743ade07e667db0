//! What a call's metadata say: the caller's request id, how long it waits, whether a sidecar sent it.

use std::time::Duration;

use proto::model::Priority;
use tonic::metadata::MetadataMap;

use crate::router;
use crate::scheduler::{Call, RequestId};

/// The call behind `metadata`, which arrives now and is for `model`.
pub(super) fn call(metadata: &MetadataMap, model: &str, priority: Priority) -> Call {
    let header = |name| metadata.get(name).and_then(|value| value.to_str().ok());
    let request_id = RequestId::new(header("x-request-id"));
    Call::new(
        request_id,
        model,
        priority,
        header("grpc-timeout").and_then(timeout),
    )
}

/// True when another sidecar has sent the request here.
pub(super) fn is_routed(metadata: &MetadataMap) -> bool {
    metadata.contains_key(router::ROUTED)
}

/// `grpc-timeout`: at most eight digits and a unit.
fn timeout(header: &str) -> Option<Duration> {
    let (digits, unit) = header.split_at_checked(header.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(amount * 3600)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    //! Goal: every form of the header that gRPC allows is understood, anything else is no deadline.

    use super::*;

    #[test]
    fn timeouts() {
        for (header, expected) in [
            ("2H", Some(Duration::from_secs(7200))),
            ("3M", Some(Duration::from_secs(180))),
            ("4S", Some(Duration::from_secs(4))),
            ("250m", Some(Duration::from_millis(250))),
            ("99999999u", Some(Duration::from_micros(99_999_999))),
            ("5n", Some(Duration::from_nanos(5))),
            ("", None),
            ("S", None),
            ("+1S", None),
            ("1s", None),
            ("123456789S", None),
            ("1µ", None),
        ] {
            assert_eq!(timeout(header), expected, "{header}");
        }
    }
}
