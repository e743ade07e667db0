//! What of a chunk is embedded, and what stands in front of it.

/// What a template may name.
#[derive(Debug, Clone, Copy)]
pub struct ChunkFields<'a> {
    /// Kind, account, opportunity, subject and section, in one line.
    pub heading: &'a str,
    /// The day it took place, as `2026-11-30`.
    pub date: &'a str,
    /// Kind of the interaction.
    pub kind: &'a str,
    /// What was said.
    pub content: &'a str,
}

/// `template` with `{heading}`, `{date}`, `{kind}` and `{content}` put in; anything else stays as it is, also what
/// looks like a placeholder inside the fields.
pub fn render(template: &str, fields: ChunkFields) -> String {
    let mut text = String::with_capacity(template.len() + fields.content.len());
    let mut rest = template;
    while let Some(open) = rest.find('{') {
        text.push_str(&rest[..open]);
        rest = &rest[open..];
        let placeholders = [
            ("{heading}", fields.heading),
            ("{date}", fields.date),
            ("{kind}", fields.kind),
            ("{content}", fields.content),
        ];
        let known = placeholders
            .iter()
            .find_map(|(name, value)| rest.strip_prefix(name).map(|after| (after, *value)));
        let (after, value) = known.unwrap_or((&rest[1..], "{"));
        text.push_str(value);
        rest = after;
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use super::{ChunkFields, render};

    /// Goal: placeholders are filled once, and customers' braces stay what they are.
    #[test]
    fn placeholders() {
        let fields = ChunkFields {
            heading: "note | {content}",
            date: "2026-11-30",
            kind: "note",
            content: "{kind} of {",
        };
        assert_eq!(
            render("{heading} | {date}\n{content}", fields),
            "note | {content} | 2026-11-30\n{kind} of {"
        );
        assert_eq!(render("{{kind}} {other} {", fields), "{note} {other} {");
        assert_eq!(render("", fields), "");
    }
}
