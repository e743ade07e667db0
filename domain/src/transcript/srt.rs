//! SubRip, and VTT that has lost its header: numbered cues, then the same text rules as VTT.

use super::cues::{CueDialect, CueReader};
use super::lines::lines;
use super::vtt::push_cue;
use crate::error::TranscriptError;
use crate::segment::SegmentList;

pub(super) fn parse_srt<'a>(
    text: &'a str,
    segments: &mut SegmentList<'a>,
) -> Result<(), TranscriptError> {
    let mut reader = CueReader::new(CueDialect::Srt);
    for line in lines(text) {
        if let Some(cue) = reader.take_line(line)? {
            push_cue(text, &cue, segments)?;
        }
    }
    if let Some(cue) = reader.finish() {
        push_cue(text, &cue, segments)?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "srt_tests.rs"]
mod tests;
