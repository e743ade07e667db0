//! Goal: each status of the contract becomes the error that its caller acts on.

use tonic::{Code, Status};

use super::{CONTEXT_EXCEEDED, ClientError, MISSING_ADAPTER};

fn error(code: Code, metadata: &[(&'static str, &str)]) -> ClientError {
    let mut status = Status::new(code, "why");
    for (key, value) in metadata {
        let value = value.parse().expect("ASCII");
        status.metadata_mut().insert(*key, value);
    }
    status.into()
}

#[test]
fn waits_come_with_the_servers_hint() {
    let hint = [("retry-after-ms", "250")];
    assert!(matches!(
        error(Code::ResourceExhausted, &hint),
        ClientError::Overloaded {
            retry_after_ms: Some(250)
        }
    ));
    assert!(matches!(
        error(Code::Aborted, &hint),
        ClientError::AdapterBusy {
            retry_after_ms: Some(250)
        }
    ));
    assert!(matches!(
        error(Code::Aborted, &[("retry-after-ms", "soon")]),
        ClientError::AdapterBusy {
            retry_after_ms: None
        }
    ));
}

#[test]
fn adapters_are_told_from_models() {
    let missing = error(Code::NotFound, &[(MISSING_ADAPTER, "tone")]);
    assert!(matches!(missing, ClientError::AdapterMissing { name } if name == "tone"));
    assert!(matches!(
        error(Code::NotFound, &[]),
        ClientError::NotFound(_)
    ));
    assert!(matches!(
        error(Code::FailedPrecondition, &[]),
        ClientError::AdapterOutdated
    ));
    assert!(matches!(
        error(Code::OutOfRange, &[]),
        ClientError::ConstraintUnfinished(_)
    ));
}

#[test]
fn too_long_is_told_from_wrong() {
    assert!(matches!(
        error(Code::InvalidArgument, &[(CONTEXT_EXCEEDED, "1")]),
        ClientError::ContextExceeded(_)
    ));
    assert!(matches!(
        error(Code::InvalidArgument, &[]),
        ClientError::InvalidRequest(_)
    ));
}
