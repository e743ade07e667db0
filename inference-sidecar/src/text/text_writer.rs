//! Turns tokens into text piece by piece: whole characters only, and never a part of a stop string.

use std::sync::Arc;

use crate::text::ChatTokenizer;

/// The text of one answer while it is made.
pub struct TextWriter {
    tokenizer: Arc<ChatTokenizer>,
    pieces: Pieces,
}

/// What has been made but not handed out.
struct Pieces {
    stop: Vec<String>,
    /// The beginning of a character whose rest is still to come; at most three bytes.
    bytes: Vec<u8>,
    /// Text that may turn out to be the beginning of a stop string.
    held: String,
    is_stopped: bool,
}

impl TextWriter {
    pub fn new(tokenizer: Arc<ChatTokenizer>, stop: Vec<String>) -> Self {
        Self {
            tokenizer,
            pieces: Pieces::new(stop),
        }
    }

    /// Takes a token, returns the text that is certain by now; may be empty.
    pub fn push(&mut self, token: u32) -> String {
        let bytes = self.tokenizer.bytes(token);
        self.pieces.push(bytes)
    }

    /// True when a stop string was found; the text before it has been returned.
    pub fn is_stopped(&self) -> bool {
        self.pieces.is_stopped
    }

    /// The text held back so far, when no more tokens come. Half a character is dropped.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.pieces.held)
    }
}

impl Pieces {
    fn new(stop: Vec<String>) -> Self {
        Self {
            stop,
            bytes: Vec::new(),
            held: String::new(),
            is_stopped: false,
        }
    }

    fn push(&mut self, bytes: &[u8]) -> String {
        if self.is_stopped {
            return String::new();
        }
        self.bytes.extend_from_slice(bytes);
        self.decode();
        let found = self
            .stop
            .iter()
            .filter_map(|stop| self.held.find(stop.as_str()))
            .min();
        if let Some(position) = found {
            self.is_stopped = true;
            let mut text = std::mem::take(&mut self.held);
            text.truncate(position);
            return text;
        }
        let kept = self.held.len() - self.uncertain_bytes();
        let rest = self.held.split_off(kept);
        std::mem::replace(&mut self.held, rest)
    }

    /// Moves whole characters from `bytes` to `held`; bytes that can never be one become U+FFFD.
    fn decode(&mut self) {
        let mut consumed = 0;
        for chunk in self.bytes.utf8_chunks() {
            self.held.push_str(chunk.valid());
            consumed += chunk.valid().len();
            let invalid = chunk.invalid();
            let is_last = consumed + invalid.len() == self.bytes.len();
            if invalid.is_empty() || (is_last && is_beginning_of_char(invalid)) {
                continue;
            }
            self.held.push(char::REPLACEMENT_CHARACTER);
            consumed += invalid.len();
        }
        self.bytes.drain(..consumed);
    }

    /// Length of the longest end of `held` that begins a stop string.
    fn uncertain_bytes(&self) -> usize {
        let begins_stop = |&length: &usize| {
            let start = self.held.len() - length;
            let end = self.held.get(start..);
            end.is_some_and(|end| self.stop.iter().any(|stop| stop.starts_with(end)))
        };
        let longest = self.stop.iter().map(String::len).max().unwrap_or(0);
        (1..=longest.min(self.held.len()))
            .rev()
            .find(begins_stop)
            .unwrap_or(0)
    }
}

/// True when more bytes could make `bytes` a character.
fn is_beginning_of_char(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    //! Goal: pieces join to the text before the first stop string, however the bytes are cut.

    use super::*;

    fn check(bytes: &[u8], stop: &[&str], expected: &str) {
        for step in 1..=bytes.len() {
            let mut pieces = Pieces::new(stop.iter().map(|&stop| stop.to_owned()).collect());
            let mut text = String::new();
            for part in bytes.chunks(step) {
                let piece = pieces.push(part);
                assert!(stop.iter().all(|stop| !piece.contains(stop)));
                text.push_str(&piece);
            }
            text.push_str(&std::mem::take(&mut pieces.held));
            assert_eq!(text, expected, "step {step}");
            assert_eq!(
                pieces.is_stopped,
                expected.len() < bytes.len() && !stop.is_empty()
            );
        }
    }

    #[test]
    fn characters_stay_whole() {
        check("naïve 🙂 日本".as_bytes(), &[], "naïve 🙂 日本");
        check(b"a\xffb", &[], "a\u{fffd}b");
        check(b"cut \xf0\x9f\x99", &[], "cut ");
    }

    #[test]
    fn stop_strings_never_leak() {
        check(b"one two three", &["two"], "one ");
        check(b"one twin", &["two"], "one twin");
        check(b"aaab tail", &["aab"], "a");
        check("größe ENDE x".as_bytes(), &["ENDE", "\n\n"], "größe ");
        check("x🙂y".as_bytes(), &["🙂"], "x");
    }

    #[test]
    fn an_open_beginning_is_held_back() {
        let mut pieces = Pieces::new(vec!["<end>".into()]);
        assert_eq!(pieces.push(b"text <e"), "text ");
        assert_eq!(pieces.push(b"n"), "");
        assert_eq!(pieces.push(b"t"), "<ent");
    }
}
