//! The cue blocks that VTT and SRT share: times, then text up to a blank line.

use std::ops::Range;

use super::lines::Line;
use super::timestamps::{CueTimes, parse_cue_times};
use crate::error::{TranscriptError, TranscriptProblem};

/// Which comment blocks stand between the cues.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum CueDialect {
    /// `NOTE`, `STYLE` and `REGION` blocks are skipped.
    Vtt,
    /// There are none.
    Srt,
}

/// One cue with the place of its text in the original.
pub(super) struct Cue {
    pub(super) times: CueTimes,
    pub(super) payload: Range<usize>,
}

/// Reads cues from lines, one line at a time.
pub(super) struct CueReader {
    dialect: CueDialect,
    block: Block,
}

/// The block that the current line belongs to.
enum Block {
    /// Between cues; the line is blank, an identifier or cue times.
    Gap,
    /// A comment or style block.
    Skipped,
    /// The text of a cue.
    Payload(OpenCue),
}

struct OpenCue {
    times: CueTimes,
    payload: Range<usize>,
    /// The last line of the text when it looks like the identifier of a next cue.
    identifier_start: Option<usize>,
}

impl CueReader {
    pub(super) fn new(dialect: CueDialect) -> Self {
        Self {
            dialect,
            block: Block::Gap,
        }
    }

    /// Takes the next line; gives the cue that this line ends, if it ends one.
    pub(super) fn take_line(&mut self, line: Line<'_>) -> Result<Option<Cue>, TranscriptError> {
        if line.text.contains("-->") && self.expects_times(line.text) {
            let times = parse_cue_times(line.text).ok_or(TranscriptError::Malformed {
                line: line.number,
                problem: TranscriptProblem::UnreadableTimes,
            })?;
            let payload = line.end()..line.end();
            let next = Block::Payload(OpenCue {
                times,
                payload,
                identifier_start: None,
            });
            // The blank line before these times is missing: an identifier above them is not text.
            return Ok(std::mem::replace(&mut self.block, next).into_cue_before_times());
        }
        if line.text.trim().is_empty() {
            return Ok(self.finish());
        }
        match &mut self.block {
            Block::Gap if self.dialect == CueDialect::Vtt && opens_skipped_block(line.text) => {
                self.block = Block::Skipped;
            }
            Block::Payload(cue) => cue.take_text(line),
            Block::Gap | Block::Skipped => {}
        }
        Ok(None)
    }

    /// Ends the current block; gives its cue.
    pub(super) fn finish(&mut self) -> Option<Cue> {
        match std::mem::replace(&mut self.block, Block::Gap) {
            Block::Payload(cue) => Some(Cue {
                times: cue.times,
                payload: cue.payload,
            }),
            Block::Gap | Block::Skipped => None,
        }
    }

    /// An arrow inside spoken text is text; anywhere else it stands between two times.
    fn expects_times(&self, text: &str) -> bool {
        match self.block {
            Block::Gap => true,
            Block::Skipped => parse_cue_times(text).is_some(),
            Block::Payload(_) => {
                let before = text.split("-->").next().unwrap_or_default();
                let first = before.trim_start().trim_start_matches('-').chars().next();
                first.is_some_and(|first| first.is_ascii_digit()) && before.contains(':')
            }
        }
    }
}

impl Block {
    fn into_cue_before_times(self) -> Option<Cue> {
        let Block::Payload(cue) = self else {
            return None;
        };
        let end = cue.identifier_start.unwrap_or(cue.payload.end);
        Some(Cue {
            times: cue.times,
            payload: cue.payload.start..end,
        })
    }
}

impl OpenCue {
    fn take_text(&mut self, line: Line<'_>) {
        if self.payload.is_empty() {
            self.payload.start = line.start;
        }
        self.payload.end = line.end();
        self.identifier_start = is_identifier(line.text).then_some(line.start);
    }
}

fn opens_skipped_block(text: &str) -> bool {
    let word = text.split([' ', '\t']).next().unwrap_or_default();
    word == "NOTE" || (matches!(word, "STYLE" | "REGION") && text.trim_end() == word)
}

/// A cue number (Zoom, SRT) or a GUID with an optional `/12-0` behind it (Teams).
fn is_identifier(text: &str) -> bool {
    let text = text.trim();
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let is_guid = text.len() >= 36
        && text
            .bytes()
            .take(36)
            .enumerate()
            .all(|(at, byte)| match at {
                8 | 13 | 18 | 23 => byte == b'-',
                _ => byte.is_ascii_hexdigit(),
            });
    is_number || is_guid
}
