//! On whose behalf a generation runs, and by which generation of its adapter.

use proto::client::ClientError;
use proto::model::{AdapterChoice, Caller, GenerationRequest, ModelChoice};

use crate::adapters::registry::{self, Context};
use crate::error::Error;

/// Who calls, and the model and generation of the adapter: the same for all requests of a call.
pub struct Address {
    caller: Caller,
    model: ModelChoice,
    pub adapter: Option<AdapterChoice>,
}

impl Address {
    pub fn of(request: &GenerationRequest) -> Result<Self, Error> {
        let mut adapter = request.adapter.clone();
        let mut model = request.model.clone();
        let name = adapter.as_ref().map(|adapter| adapter.name.as_str());
        let context = checked_context(model.name(), name)?;
        if let (Some(adapter), Some(active)) = (adapter.as_mut(), context.adapter) {
            adapter.generation = active.generation;
            model = ModelChoice::Named(active.model);
        }
        Ok(Self {
            caller: Caller {
                name: context.caller,
                cache_salt: context.cache_salt,
            },
            model,
            adapter,
        })
    }

    /// None: the default one.
    pub fn model_name(&self) -> Option<&str> {
        self.model.name()
    }

    pub fn put_on(&self, mut request: GenerationRequest) -> GenerationRequest {
        request.caller = self.caller.clone();
        request.model = self.model.clone();
        request.adapter = self.adapter.clone();
        request
    }

    /// The sidecar has none, or after a rollback a newer one than the active generation.
    pub fn lacks_adapter(&self, error: &ClientError) -> bool {
        let generation = self.adapter.as_ref().and_then(|adapter| adapter.generation);
        generation.is_some()
            && matches!(
                error,
                ClientError::AdapterMissing { .. } | ClientError::AdapterOutdated
            )
    }
}

/// Fails when no generation of the adapter is active, or when it belongs to another model.
pub fn checked_context(model: Option<&str>, adapter: Option<&str>) -> Result<Context, Error> {
    let context = registry::context(model, adapter)?;
    let Some(name) = adapter.map(str::to_owned) else {
        return Ok(context);
    };
    let Some(active) = &context.adapter else {
        return Err(Error::NoAdapter { name });
    };
    if model.is_some_and(|model| model != active.model) {
        let base = active.model.clone();
        return Err(Error::AdapterOfOtherModel { name, base });
    }
    Ok(context)
}
