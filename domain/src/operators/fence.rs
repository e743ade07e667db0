//! A document as data: nothing in it can be taken for the marks around it, or for those of a chat template.

/// In place of a bracket that would begin a mark.
const ANGLE: char = '‹';
const SQUARE: char = '⁅';

/// The text without marks such as `</document>`, `<|im_end|>`, `</s>` or `[/INST]`: the brackets that begin them are
/// replaced. Control characters become spaces.
pub fn fenced(text: &str) -> String {
    let mut fenced = String::with_capacity(text.len());
    for (at, character) in text.char_indices() {
        let rest = &text[at + character.len_utf8()..];
        fenced.push(match character {
            '<' if begins_mark(rest) => ANGLE,
            '[' if begins_instruction(rest) => SQUARE,
            '\n' | '\t' => character,
            _ if character.is_control() => ' ',
            _ => character,
        });
    }
    fenced.trim().to_owned()
}

/// What the model copied from a fenced text, as the text has it.
pub fn unfenced(copied: &str, text: &str) -> String {
    [(ANGLE, '<'), (SQUARE, '[')]
        .into_iter()
        .filter(|(replacement, _)| !text.contains(*replacement))
        .fold(copied.to_owned(), |copied, (replacement, bracket)| {
            copied.replace(replacement, &bracket.to_string())
        })
}

/// `<5 %` is no mark.
fn begins_mark(rest: &str) -> bool {
    let first = rest.chars().next();
    first.is_some_and(|first| {
        first.is_alphabetic() || matches!(first, '/' | '|' | '!' | '\\' | '｜')
    })
}

/// `[INST]`, `[/INST]`, `[SYSTEM_PROMPT]`, `[TOOL_CALLS]`: two capitals at least.
fn begins_instruction(rest: &str) -> bool {
    let name = rest.strip_prefix('/').unwrap_or(rest);
    let mut characters = name.chars();
    characters.next().is_some_and(char::is_uppercase)
        && characters.next().is_some_and(char::is_uppercase)
}

#[cfg(test)]
#[path = "fence_tests.rs"]
mod tests;
