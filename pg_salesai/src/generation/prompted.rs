//! A request as most of them are: rules and a text, for somebody who waits.

use proto::model::{
    AdapterChoice, Caller, ChatMessage, GenerationRequest, ModelChoice, Priority, Role, Sampling,
};

/// What such a request says; all else has its usual value, and the likeliest text is asked for.
pub struct Prompted {
    /// None: the default one.
    pub model: Option<String>,
    pub adapter: Option<String>,
    pub system: String,
    pub user: String,
    pub tokens_max: u32,
}

impl From<Prompted> for GenerationRequest {
    fn from(prompted: Prompted) -> Self {
        let say = |role, content| ChatMessage { role, content };
        Self {
            model: ModelChoice::from(prompted.model.unwrap_or_default()),
            adapter: prompted.adapter.map(|name| AdapterChoice {
                name,
                generation: None,
            }),
            messages: vec![
                say(Role::System, prompted.system),
                say(Role::User, prompted.user),
            ],
            tokens_max: prompted.tokens_max,
            sampling: Sampling::GREEDY,
            stop: Vec::new(),
            constraint: None,
            top_logprobs: 0,
            priority: Priority::Interactive,
            caller: Caller::default(),
        }
    }
}
