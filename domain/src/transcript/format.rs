//! The transcript formats, their names, and how one is recognised.

use std::str::FromStr;

use super::gong::is_gong;
use super::lines::lines;
use super::timestamps::parse_cue_times;
use crate::error::TranscriptError;

/// How many filled lines are looked at to recognise a format.
const SNIFF_LINES_MAX: usize = 10;

/// How many characters of an unknown format name an error repeats.
const FORMAT_NAME_CHARS_MAX: usize = 32;

/// How a transcript is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TranscriptFormat {
    /// WebVTT, as Zoom and Teams write it.
    Vtt,
    /// SubRip.
    Srt,
    /// JSON of Gong's API.
    Gong,
    /// Lines of `Speaker: text`.
    Plain,
}

/// Which format the caller asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormatChoice {
    /// Recognise it from the text.
    Auto,
    /// Read it as this format only.
    Fixed(TranscriptFormat),
}

impl TranscriptFormat {
    /// The stable name of the format.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vtt => "vtt",
            Self::Srt => "srt",
            Self::Gong => "gong",
            Self::Plain => "plain",
        }
    }

    /// Under which it is kept.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Vtt => "text/vtt",
            Self::Srt => "application/x-subrip",
            Self::Gong => "application/json",
            Self::Plain => "text/plain",
        }
    }

    /// The format kept under this media type.
    pub fn of_media_type(media_type: &str) -> Self {
        [Self::Vtt, Self::Srt, Self::Gong]
            .into_iter()
            .find(|format| format.media_type() == media_type)
            .unwrap_or(Self::Plain)
    }
}

impl FormatChoice {
    /// The format to read `text` as.
    pub(super) fn resolve(self, text: &str) -> TranscriptFormat {
        match self {
            Self::Fixed(format) => format,
            Self::Auto => recognise_format(text),
        }
    }
}

impl FromStr for FormatChoice {
    type Err = TranscriptError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "auto" => Ok(Self::Auto),
            "vtt" => Ok(Self::Fixed(TranscriptFormat::Vtt)),
            "srt" => Ok(Self::Fixed(TranscriptFormat::Srt)),
            "gong" => Ok(Self::Fixed(TranscriptFormat::Gong)),
            "plain" => Ok(Self::Fixed(TranscriptFormat::Plain)),
            _ => Err(TranscriptError::UnknownFormat(
                name.chars().take(FORMAT_NAME_CHARS_MAX).collect(),
            )),
        }
    }
}

/// Whether `line` is the first line of a VTT file.
pub(super) fn is_vtt_header(line: &str) -> bool {
    line.trim_start_matches('\u{feff}')
        .strip_prefix("WEBVTT")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t']))
}

/// JSON with a transcript is Gong's, a header means VTT, cue times near the top mean SRT (or VTT without header), all
/// else is plain.
fn recognise_format(text: &str) -> TranscriptFormat {
    if is_gong(text) {
        return TranscriptFormat::Gong;
    }
    for line in lines(text)
        .filter(|line| !line.text.trim().is_empty())
        .take(SNIFF_LINES_MAX)
    {
        if is_vtt_header(line.text) {
            return TranscriptFormat::Vtt;
        }
        if parse_cue_times(line.text).is_some() {
            return TranscriptFormat::Srt;
        }
    }
    TranscriptFormat::Plain
}
