//! What the sidecar serves, as far as results of it may be used again.

use std::time::{SystemTime, UNIX_EPOCH};

use proto::wire::{Model, ModelKind};

use super::call::{Deadline, call};
use crate::error::Error;

/// A model that the sidecar runs itself.
pub struct Served {
    /// SHA-256 of its weights.
    pub sha256: String,
    /// When the sidecar started, in seconds of Unix time: another one may have other settings, tokenizers or templates.
    pub started_s: u64,
}

/// Two readings of the same start differ by as much.
const START_SLACK_S: u64 = 2;

impl Served {
    /// A model, or the default one of its kind; None where the sidecar does not run it itself.
    pub fn find(
        kind: ModelKind,
        name: Option<&str>,
        deadline: Deadline,
    ) -> Result<Option<Self>, Error> {
        let (models, status) = call(deadline, async |client| {
            let models = client.models(deadline.remaining()).await?;
            Ok((models, client.status(deadline.remaining()).await?))
        })?;
        let model = meant_model(&models, kind, name);
        let local = model.filter(|model| !model.is_remote && !model.sha256.is_empty());
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now_s = now.map_or(0, |now| now.as_secs());
        Ok(local.map(|model| Self {
            sha256: model.sha256.clone(),
            started_s: now_s.saturating_sub(status.uptime_seconds),
        }))
    }

    /// Whether this is the process that started then.
    pub fn has_started(&self, started_s: u64) -> bool {
        self.started_s.abs_diff(started_s) <= START_SLACK_S
    }
}

/// A model that the sidecar or a server behind it runs: of this name, or the default one of its kind.
pub fn find_model(
    kind: ModelKind,
    name: Option<&str>,
    deadline: Deadline,
) -> Result<Option<Model>, Error> {
    Ok(meant_model(&models(deadline)?, kind, name).cloned())
}

/// All models that the sidecar or a server behind it runs.
pub fn models(deadline: Deadline) -> Result<Vec<Model>, Error> {
    call(deadline, async |client| {
        client.models(deadline.remaining()).await
    })
}

/// The model of this name, or the default one of its kind.
pub fn meant_model<'a>(
    models: &'a [Model],
    kind: ModelKind,
    name: Option<&str>,
) -> Option<&'a Model> {
    models.iter().find(|model| match name {
        Some(name) => model.name == name,
        None => model.kind() == kind && model.is_default,
    })
}
