//! Texts from outside as data: nothing in them can be taken for the marks around them, for those of a chat template,
//! for a number of ours, or be read by a model where a person sees nothing.

use crate::markup::collapse_whitespace;

/// Brackets that begin marks, and what stands for each; every one has its own, so that a copy can be turned back.
const OPENINGS: [(char, char); 5] = [
    ('<', '‹'),
    ('＜', '〈'),
    ('﹤', '⟨'),
    ('[', '⁅'),
    ('［', '〔'),
];

/// A text of many lines without marks such as `</document>`, `<|im_end|>`, `</s>` or `[/INST]`: the brackets that begin
/// them are replaced. Control characters become spaces, invisible ones go.
pub(crate) fn fenced(text: &str) -> String {
    let text = visible(text);
    let mut fenced = String::with_capacity(text.len());
    for (at, character) in text.char_indices() {
        let rest = &text[at + character.len_utf8()..];
        let begins = match character {
            '<' | '＜' | '﹤' => begins_mark(rest),
            '[' | '［' => begins_instruction(rest),
            _ => false,
        };
        let stands_for = OPENINGS
            .iter()
            .find(|(bracket, _)| begins && *bracket == character);
        fenced.push(stands_for.map_or(character, |(_, replacement)| *replacement));
    }
    fenced.trim().to_owned()
}

/// What the model copied from a fenced text, as the text has it.
pub(crate) fn unfenced(copied: &str, text: &str) -> String {
    OPENINGS
        .into_iter()
        .filter(|(_, replacement)| !text.contains(*replacement))
        .fold(copied.to_owned(), |copied, (bracket, replacement)| {
            copied.replace(replacement, bracket.encode_utf8(&mut [0; 4]))
        })
}

/// A text on one line without any bracket that marks and numbers of ours are made of, or that looks like one.
pub(crate) fn fenced_line(text: &str) -> String {
    collapse_whitespace(&visible(text))
        .chars()
        .map(|character| match character {
            '<' | '＜' | '﹤' => '‹',
            '>' | '＞' | '﹥' => '›',
            '[' | '［' | '【' | '⁅' => '(',
            ']' | '］' | '】' | '⁆' => ')',
            other => other,
        })
        .collect()
}

/// The characters that a person sees: no tags, directions or blanks without width. What scripts and emoji need stays
/// where they need it.
fn visible(text: &str) -> String {
    let mut visible = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    let mut before = ' ';
    while let Some(character) = characters.next() {
        let is_between =
            !before.is_ascii() && characters.peek().is_some_and(|next| !next.is_ascii());
        let kept = match character {
            '\n' | '\t' => Some(character),
            '\u{2028}' | '\u{2029}' => Some('\n'),
            // Persian, Indic scripts and emoji are joined by them.
            '\u{200c}' | '\u{200d}' => {
                (is_between && !is_selector_or_joiner(before)).then_some(character)
            }
            // Emoji, and the keys 0 to 9, # and *.
            '\u{fe00}'..='\u{fe0f}' => {
                let is_chosen = !before.is_ascii() || matches!(before, '0'..='9' | '#' | '*');
                (is_chosen && !is_selector_or_joiner(before)).then_some(character)
            }
            // One selects a variant of an ideograph; more of them carry bytes.
            '\u{e0100}'..='\u{e01ef}' => is_ideograph(before).then_some(character),
            _ if is_invisible(character) => None,
            _ if character.is_control() => Some(' '),
            _ => Some(character),
        };
        if let Some(kept) = kept {
            visible.push(kept);
            before = kept;
        }
    }
    visible
}

fn is_invisible(character: char) -> bool {
    matches!(character,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
        | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e00ff}' | '\u{e01f0}'..='\u{e0fff}')
}

/// A run of them carries bytes.
fn is_selector_or_joiner(character: char) -> bool {
    matches!(character, '\u{200c}' | '\u{200d}' | '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}')
}

fn is_ideograph(character: char) -> bool {
    matches!(character, '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

/// `<5 %`, `< 4` and `<=` are no marks; `<0x0A>` is one of SentencePiece.
fn begins_mark(rest: &str) -> bool {
    let rest = rest.trim_start();
    rest.starts_with("0x")
        || !rest.starts_with(|first: char| {
            first.is_numeric() || matches!(first, '=' | '-' | '<' | '$' | '€' | '£')
        }) && !rest.is_empty()
}

/// `[INST]`, `[ /inst]`, `[gMASK]`, `[SYSTEM_PROMPT]`: two capitals among the first letters, plain or wide.
fn begins_instruction(rest: &str) -> bool {
    let name = rest.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, '/' | '／'));
    let is_instruction = name
        .get(..4)
        .is_some_and(|name| name.eq_ignore_ascii_case("inst"));
    is_instruction
        || name
            .chars()
            .take_while(|character| character.is_alphabetic())
            .take(5)
            .filter(|character| character.is_uppercase())
            .count()
            >= 2
}

#[cfg(test)]
#[path = "fence_tests.rs"]
mod tests;
