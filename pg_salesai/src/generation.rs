//! One generation on behalf of the session's role. A sidecar that lacks the adapter is sent it first, so that
//! one which was restarted gets what it needs from the call that needs it.

use proto::client::{ClientError, SidecarClient};
use proto::model::{AdapterChoice, Caller, GenerationRequest, ModelChoice};
use proto::wire::generate_response::Event;
use proto::wire::{GenerateFinished, GenerateStarted};

use crate::adapters::registry::{self, Context};
use crate::error::Error;
use crate::sidecar::{self, Deadline};

/// How often a call begins anew because its adapter is not there; other callers may push it out again.
const ROUNDS_MAX: usize = 3;

/// What the model wrote, and what it cost.
#[derive(Default)]
pub struct Draft {
    pub text: String,
    pub started: GenerateStarted,
    pub finished: GenerateFinished,
}

/// Generates a whole text. `request` says what is wanted; who calls, and the generation of the adapter, are
/// asked of the database, anew in each round: the adapter may have been replaced meanwhile.
pub fn generate(request: &GenerationRequest, deadline: Deadline) -> Result<Draft, Error> {
    for _ in 0..ROUNDS_MAX {
        let request = addressed(request)?;
        let adapter = request.adapter.clone();
        let answer = sidecar::call(deadline, async |client| {
            collect(client, request, deadline).await
        });
        match (answer, adapter) {
            (
                // It has none, or after a rollback a newer one than the active generation.
                Err(Error::Sidecar(
                    ClientError::AdapterMissing { .. } | ClientError::AdapterOutdated,
                )),
                Some(AdapterChoice {
                    name,
                    generation: Some(_),
                }),
            ) => registry::load(&name, deadline)?,
            (answer, _) => return answer,
        }
    }
    let name = request.adapter.as_ref().map(|adapter| adapter.name.clone());
    Err(Error::AdapterUnsettled {
        name: name.unwrap_or_default(),
    })
}

/// The request with caller, cache salt, and the model and generation of its adapter.
fn addressed(request: &GenerationRequest) -> Result<GenerationRequest, Error> {
    let mut request = request.clone();
    let adapter = request
        .adapter
        .as_ref()
        .map(|adapter| adapter.name.as_str());
    let context = checked_context(request.model.name(), adapter)?;
    request.caller = Caller {
        name: context.caller,
        cache_salt: context.cache_salt,
    };
    if let (Some(adapter), Some(active)) = (request.adapter.as_mut(), context.adapter) {
        adapter.generation = active.generation;
        request.model = ModelChoice::Named(active.model);
    }
    Ok(request)
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

async fn collect(
    client: &mut SidecarClient,
    request: GenerationRequest,
    deadline: Deadline,
) -> Result<Draft, ClientError> {
    let mut generation = client.generate(request, deadline.remaining()).await?;
    let mut draft = Draft::default();
    while let Some(event) = generation.next().await? {
        match event {
            Event::Started(started) => draft.started = started,
            Event::Text(text) => draft.text.push_str(&text),
            Event::Finished(finished) => draft.finished = finished,
            // None were asked for.
            Event::Token(_) => {}
        }
    }
    Ok(draft)
}
