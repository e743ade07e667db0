//! The door: limits, format, segments.

use super::format::{FormatChoice, TranscriptFormat};
use super::gong::parse_gong;
use super::plain::parse_plain;
use super::srt::parse_srt;
use super::vtt::parse_vtt;
use crate::error::TranscriptError;
use crate::segment::{Segment, SegmentList};

/// The largest transcript in bytes.
pub const TRANSCRIPT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A transcript that was read; it has at least one segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transcript {
    /// How it was written.
    pub format: TranscriptFormat,
    /// Its utterances in the order of the original.
    pub segments: Vec<Segment>,
}

/// Reads a transcript; ranges in the result are characters of `text` as given.
pub fn parse_transcript(text: &str, format: FormatChoice) -> Result<Transcript, TranscriptError> {
    check_size(text)?;
    let format = format.resolve(text);
    let mut segments = SegmentList::new(text);
    match format {
        TranscriptFormat::Vtt => parse_vtt(text, &mut segments)?,
        TranscriptFormat::Srt => parse_srt(text, &mut segments)?,
        TranscriptFormat::Gong => parse_gong(text, &mut segments)?,
        TranscriptFormat::Plain => parse_plain(text, &mut segments)?,
    }
    let segments = segments.into_segments();
    if segments.is_empty() {
        return Err(TranscriptError::NoSegments);
    }
    Ok(Transcript { format, segments })
}

/// Checks a transcript before it is stored: its format, and how long it took where it has times. Plain text cannot be
/// malformed, and so is not read.
pub fn inspect_transcript(
    text: &str,
    format: FormatChoice,
) -> Result<(TranscriptFormat, Option<i64>), TranscriptError> {
    check_size(text)?;
    match format.resolve(text) {
        TranscriptFormat::Plain => Ok((TranscriptFormat::Plain, None)),
        format => {
            let transcript = parse_transcript(text, FormatChoice::Fixed(format))?;
            Ok((format, transcript.duration_ms()))
        }
    }
}

fn check_size(text: &str) -> Result<(), TranscriptError> {
    if text.len() > TRANSCRIPT_BYTES_MAX {
        let bytes_max = TRANSCRIPT_BYTES_MAX;
        return Err(TranscriptError::TooLong {
            bytes: text.len(),
            bytes_max,
        });
    }
    if text.trim_start_matches('\u{feff}').trim().is_empty() {
        return Err(TranscriptError::Empty);
    }
    Ok(())
}

impl Transcript {
    /// The speakers in the order of their first words.
    pub fn speakers(&self) -> Vec<&str> {
        let mut seen = std::collections::HashSet::new();
        let named = self
            .segments
            .iter()
            .filter_map(|segment| segment.speaker.as_deref());
        named.filter(|name| seen.insert(*name)).collect()
    }

    /// How many turns there are.
    pub fn turn_count(&self) -> u32 {
        self.segments.last().map_or(0, |segment| segment.turn + 1)
    }

    /// The last time in the transcript, in milliseconds from its start; `None` without times.
    pub fn duration_ms(&self) -> Option<i64> {
        self.segments
            .iter()
            .filter_map(|segment| segment.end_ms.max(segment.start_ms))
            .max()
    }
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
