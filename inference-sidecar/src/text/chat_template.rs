//! The model's own Jinja chat template, from a conversation to the text it was trained on.

use minijinja::{Environment, ErrorKind, Value, context};

use crate::error::Error;

/// A parsed template with the model's special tokens.
pub(super) struct ChatTemplate {
    environment: Environment<'static>,
    bos_token: String,
    eos_token: String,
}

/// One message as templates know it.
#[derive(serde::Serialize)]
pub(super) struct TemplateMessage {
    pub role: &'static str,
    pub content: String,
}

const NAME: &str = "chat";

impl ChatTemplate {
    /// Parses `source` with the settings and extras of Hugging Face's Jinja environment.
    ///
    /// `strftime_now` is left undefined on purpose: the same request must give the same prompt
    /// tomorrow, and templates fall back to a fixed date.
    pub(super) fn new(
        source: &str,
        bos_token: &str,
        eos_token: &str,
    ) -> Result<Self, minijinja::Error> {
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |reason: String| -> Result<Value, _> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, reason))
        });
        environment.add_template_owned(NAME, source.to_owned())?;
        Ok(Self {
            environment,
            bos_token: bos_token.into(),
            eos_token: eos_token.into(),
        })
    }

    /// The conversation up to the point where the assistant speaks.
    pub(super) fn render(&self, messages: &[TemplateMessage]) -> Result<String, Error> {
        let rendered = self.environment.get_template(NAME).and_then(|template| {
            template.render(context! {
                messages,
                add_generation_prompt => true,
                bos_token => self.bos_token,
                eos_token => self.eos_token,
            })
        });
        // The cause may quote a message, so it is neither logged nor returned.
        rendered.map_err(|_| Error::ConversationRefused)
    }
}

#[cfg(test)]
mod tests {
    //! Goal: the constructs that published templates use work as in Hugging Face's renderer, and a
    //! refusal keeps quiet.

    use serde::Deserialize;

    use super::*;

    /// `templates.json`; `reference/README.md` says how it was made.
    #[derive(Deserialize)]
    struct Fixture {
        templates: Vec<RenderedTemplate>,
    }

    #[derive(Deserialize)]
    struct RenderedTemplate {
        name: String,
        template: String,
        bos: String,
        eos: String,
        /// Per conversation; None where the template refused it.
        rendered: Vec<Option<String>>,
    }

    #[derive(Deserialize)]
    struct Message {
        role: String,
        content: String,
    }

    #[test]
    fn renders_like_hugging_face() {
        let fixture = include_str!("../../tests/fixtures/templates.json");
        let fixture: Fixture = serde_json::from_str(fixture).unwrap();
        let conversations = include_str!("../../reference/llama31_conversations.json");
        let conversations: Vec<Vec<Message>> = serde_json::from_str(conversations).unwrap();
        assert_eq!((fixture.templates.len(), conversations.len()), (4, 50));
        for case in &fixture.templates {
            let template = ChatTemplate::new(&case.template, &case.bos, &case.eos).unwrap();
            for (conversation, expected) in conversations.iter().zip(&case.rendered) {
                let message = |message: &Message| TemplateMessage {
                    role: match message.role.as_str() {
                        "system" => "system",
                        "user" => "user",
                        _ => "assistant",
                    },
                    content: message.content.clone(),
                };
                let messages: Vec<_> = conversation.iter().map(message).collect();
                let rendered = template.render(&messages).ok();
                assert_eq!(&rendered, expected, "{}", case.name);
            }
        }
    }

    fn check(source: &str, expected: Option<&str>) {
        let template = ChatTemplate::new(source, "<s>", "</s>").unwrap();
        let messages = [
            TemplateMessage {
                role: "system",
                content: " be brief ".into(),
            },
            TemplateMessage {
                role: "user",
                content: "hi".into(),
            },
        ];
        assert_eq!(
            template.render(&messages).ok().as_deref(),
            expected,
            "{source}"
        );
    }

    #[test]
    fn constructs() {
        check(
            "{{ bos_token }}{{ messages[0]['content'] | trim }}{{ eos_token }}",
            Some("<s>be brief</s>"),
        );
        check(
            "{% for m in messages %}{{ m.role.upper() + m['content'].strip() }}{% endfor %}",
            Some("SYSTEMbe briefUSERhi"),
        );
        check(
            "{% if strftime_now is defined %}today{% else %}fixed{% endif %}",
            Some("fixed"),
        );
        check("{%- if true %}\n    x\n{%- endif %}", Some("    x"));
        check(
            "{{ messages | tojson | length > 10 }}{% if add_generation_prompt %}!{% endif %}",
            Some("True!"),
        );
        check(
            "{{ raise_exception('no system role, not even ' + messages[0].content) }}",
            None,
        );
    }
}
