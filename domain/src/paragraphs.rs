//! Notes and mail bodies: paragraphs between blank lines.

use std::ops::Range;

use crate::char_offsets::trim_range;
use crate::error::ParagraphError;
use crate::html_text::html_to_text;
use crate::mail_parts::{Sender, mail_parts};
use crate::markup::collapse_whitespace;
use crate::segment::{Part, RawSegment, SEGMENTS_MAX, Segment, SegmentList};

/// Splits `text` into one segment per paragraph, without speaker; ranges are characters of `text`.
pub fn split_paragraphs(text: &str) -> Result<Vec<Segment>, ParagraphError> {
    split(text, collapse_whitespace)
}

/// Splits what a reader of a page would see into one segment per paragraph; ranges are characters of that.
pub fn split_html(html: &str) -> Result<Vec<Segment>, ParagraphError> {
    split_paragraphs(&html_to_text(html))
}

/// Splits Markdown into one segment per block; ranges are characters of `text`. Lines of a block stay lines, so that
/// a table can be read; the lines that only rule off its head are left out.
pub fn split_markdown(text: &str) -> Result<Vec<Segment>, ParagraphError> {
    let is_rule =
        |line: &str| line.starts_with('|') && line.trim_matches(['|', '-', ':', ' ']).is_empty();
    split(text, |block| {
        let lines = block.lines().map(collapse_whitespace);
        let lines: Vec<String> = lines.filter(|line| !is_rule(line)).collect();
        lines.join("\n")
    })
}

/// The paragraphs of a mail, all by its writer, each with the part of the mail that it belongs to.
pub(crate) fn split_mail(
    body: &str,
    sender: Option<Sender<'_>>,
    is_forward: bool,
) -> Result<Vec<Segment>, ParagraphError> {
    let writer = sender.map(|sender| sender.name.unwrap_or(sender.address));
    let mut segments = SegmentList::new(body);
    for (range, part) in mail_parts(body, sender, is_forward) {
        add_paragraphs(
            &mut segments,
            body,
            range,
            writer,
            part,
            &collapse_whitespace,
        )?;
    }
    Ok(segments.into_segments())
}

fn split(text: &str, clean: impl Fn(&str) -> String) -> Result<Vec<Segment>, ParagraphError> {
    let mut segments = SegmentList::new(text);
    add_paragraphs(&mut segments, text, 0..text.len(), None, Part::Body, &clean)?;
    Ok(segments.into_segments())
}

fn add_paragraphs(
    segments: &mut SegmentList,
    text: &str,
    range: Range<usize>,
    writer: Option<&str>,
    part: Part,
    clean: &impl Fn(&str) -> String,
) -> Result<(), ParagraphError> {
    for paragraph in paragraph_ranges(&text[range.clone()]) {
        let paragraph = range.start + paragraph.start..range.start + paragraph.end;
        let raw = RawSegment {
            speaker: writer.map(str::to_owned),
            content: clean(&text[paragraph.clone()]),
            bytes: paragraph,
            start_ms: None,
            end_ms: None,
            part,
        };
        segments.push(raw).ok_or(ParagraphError::TooManySegments {
            segments_max: SEGMENTS_MAX,
        })?;
    }
    Ok(())
}

/// Byte ranges of the stretches without a blank line, trimmed and not empty.
fn paragraph_ranges(text: &str) -> impl Iterator<Item = Range<usize>> {
    let mut lines = text.split_inclusive('\n');
    let mut at = 0;
    std::iter::from_fn(move || {
        let mut start = None;
        for line in lines.by_ref() {
            let line_start = at;
            at += line.len();
            let is_blank = line.trim().is_empty();
            match start {
                None if !is_blank => start = Some(line_start),
                Some(start) if is_blank => return Some(trim_range(text, start..line_start)),
                _ => {}
            }
        }
        start.map(|start| trim_range(text, start..at))
    })
}

#[cfg(test)]
#[path = "paragraphs_tests.rs"]
mod tests;
