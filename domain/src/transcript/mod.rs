//! Call transcripts: VTT (Zoom, Teams), SRT, Gong's JSON and plain text, all to the same segments.

mod cues;
mod format;
mod gong;
mod label;
mod lines;
mod parse;
mod plain;
mod srt;
mod timestamps;
mod vtt;

pub use crate::error::{TranscriptError, TranscriptProblem};
pub use crate::segment::{SEGMENTS_MAX, Segment};
pub use format::{FormatChoice, TranscriptFormat};
pub(crate) use label::split_label;
pub use parse::{TRANSCRIPT_BYTES_MAX, Transcript, inspect_transcript, parse_transcript};
