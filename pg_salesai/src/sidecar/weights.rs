//! Which weights the sidecar serves.

use proto::wire::{Model, ModelKind};

use super::call::{Deadline, call};
use crate::error::Error;

/// SHA-256 of the weights of a model, or of the default one of its kind; None where the sidecar does not have them
/// itself.
pub fn local_weights(
    kind: ModelKind,
    name: Option<&str>,
    deadline: Deadline,
) -> Result<Option<String>, Error> {
    let models = call(deadline, async |client| {
        client.models(deadline.remaining()).await
    })?;
    let is_meant = |model: &&Model| match name {
        Some(name) => model.name == name,
        None => model.kind() == kind && model.is_default,
    };
    let model = models.iter().find(is_meant);
    let local = model.filter(|model| !model.is_remote && !model.sha256.is_empty());
    Ok(local.map(|model| model.sha256.clone()))
}
