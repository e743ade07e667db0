//! Documents of any length: each piece is condensed, and what came of them once more, until one piece is left.

use domain::operators::{PIECE_BYTES_MAX, PIECE_BYTES_MIN, join_parts, pieces};
use pgrx::check_for_interrupts;
use proto::client::ClientError;
use serde_json::Value;

use super::application::Outcome;
use super::asking::Asking;
use super::document_error::DocumentError;
use crate::error::Error;

/// A round makes a long document several times shorter.
const ROUNDS_MAX: usize = 16;

/// A document on its way.
enum State {
    Text { text: String, piece_bytes: usize },
    Done(Outcome),
}

/// Outcomes in the order of the documents. All pieces of a round are asked about at once.
pub fn condensed(asking: &Asking<'_>, documents: &[&str]) -> Result<Vec<Outcome>, Error> {
    let mut states: Vec<State> = documents
        .iter()
        .map(|document| State::Text {
            text: (*document).to_owned(),
            piece_bytes: PIECE_BYTES_MAX,
        })
        .collect();
    for _ in 0..ROUNDS_MAX {
        check_for_interrupts!();
        let split: Vec<Vec<&str>> = states
            .iter()
            .map(|state| match state {
                State::Text { text, piece_bytes } => pieces(text, *piece_bytes),
                State::Done(_) => Vec::new(),
            })
            .collect();
        let mut values = asking.values(&split.concat())?.into_iter();
        let counts: Vec<usize> = split.iter().map(Vec::len).collect();
        for (state, count) in states.iter_mut().zip(counts) {
            state.advance(values.by_ref().take(count).collect());
        }
        if states.iter().all(|state| matches!(state, State::Done(_))) {
            break;
        }
    }
    let outcomes = states.into_iter().map(|state| match state {
        State::Done(outcome) => outcome,
        State::Text { .. } => Err(DocumentError::NotShorter),
    });
    Ok(outcomes.collect())
}

impl State {
    /// What becomes of it by what became of its pieces.
    fn advance(&mut self, mut parts: Vec<Outcome>) {
        let Self::Text { text, piece_bytes } = self else {
            return;
        };
        let exceeded = |part: &Outcome| {
            let error = part.as_ref().err();
            matches!(
                error,
                Some(DocumentError::Sidecar(ClientError::ContextExceeded(_)))
            )
        };
        // A text of digits or of a rare script has more tokens than others.
        if parts.iter().any(exceeded) && *piece_bytes > PIECE_BYTES_MIN {
            *piece_bytes = (*piece_bytes / 2).max(PIECE_BYTES_MIN);
            return;
        }
        let (bytes, length) = (*piece_bytes, text.len());
        *self = match parts.len() {
            // A blank document has nothing to say.
            0 => Self::Done(Ok(Value::Null)),
            1 => Self::Done(parts.pop().unwrap_or(Ok(Value::Null))),
            _ => match parts.into_iter().collect::<Result<Vec<Value>, _>>() {
                Ok(parts) => match join_parts(parts.iter().filter_map(Value::as_str)) {
                    text if text.len() >= length => Self::Done(Err(DocumentError::NotShorter)),
                    text => Self::Text {
                        text,
                        piece_bytes: bytes,
                    },
                },
                Err(error) => Self::Done(Err(error)),
            },
        };
    }
}
