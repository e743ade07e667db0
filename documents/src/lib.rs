//! Reads documents as Markdown: headings, paragraphs, lists and tables are kept, looks are not.
//!
//! - [`format`](mod@format): which format a file has, by its content and name
//! - [`limits`]: what a document may cost
//! - `pdf`, `docx`, `pptx`, `opendocument`, `spreadsheet`, `epub`, `html`, `rtf`, `delimited`: a format each
//! - `workbook_stream`: how large the sheets of an old workbook are
//! - `markdown`: what they write
//! - `archive`, `xml`, `encoding`: what several of them need
//!
//! Documents come from outside: every reader ends in a text or an error of a class that tells what to do. A
//! reader may still use much time, memory or stack, so it belongs into a process of its own.

mod archive;
mod delimited;
mod docx;
mod encoding;
mod epub;
mod error;
pub mod format;
mod html;
pub mod limits;
mod markdown;
mod opendocument;
mod pdf;
mod pdf_nesting;
mod pptx;
mod rtf;
mod spreadsheet;
mod workbook_stream;
mod xml;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use error::DocumentError;
pub use format::DocumentFormat;
pub use limits::Limits;

/// A document as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    pub format: DocumentFormat,
    /// Its first heading, where its format has any.
    pub title: Option<String>,
    /// CommonMark with tables as in GitHub's.
    pub markdown: String,
}

/// Reads a document of a known format.
pub fn read(
    content: &[u8],
    format: DocumentFormat,
    limits: &Limits,
) -> Result<Document, DocumentError> {
    limits.check_file(content.len())?;
    let mut markdown = guarded(|| read_text(content, format, limits))?;
    // PostgreSQL cannot store NUL.
    markdown.retain(|character| character != '\0');
    limits.check_text(markdown.len())?;
    if !markdown.chars().any(char::is_alphanumeric) {
        return Err(DocumentError::NoText);
    }
    Ok(Document {
        format,
        title: match format {
            // Their headings are names of sheets, or none.
            DocumentFormat::Xlsx | DocumentFormat::Xls | DocumentFormat::Ods => None,
            DocumentFormat::Csv | DocumentFormat::Text => None,
            _ => markdown::first_heading(&markdown),
        },
        markdown,
    })
}

fn read_text(
    content: &[u8],
    format: DocumentFormat,
    limits: &Limits,
) -> Result<String, DocumentError> {
    match format {
        DocumentFormat::Pdf => pdf::read(content, limits),
        DocumentFormat::Docx => docx::read(content, limits),
        DocumentFormat::Pptx => pptx::read(content, limits),
        DocumentFormat::Odt => opendocument::read(content, limits),
        DocumentFormat::Xlsx | DocumentFormat::Xls | DocumentFormat::Ods => {
            spreadsheet::read(content, format, limits)
        }
        DocumentFormat::Epub => epub::read(content, limits),
        DocumentFormat::Html => html::read(content),
        DocumentFormat::Rtf => rtf::read(content, limits),
        DocumentFormat::Csv => delimited::read(content),
        DocumentFormat::Markdown | DocumentFormat::Text => encoding::decode(content),
    }
}

/// Libraries for documents panic at some damaged files: overflows, indexes out of bounds.
fn guarded(read: impl FnOnce() -> Result<String, DocumentError>) -> Result<String, DocumentError> {
    catch_unwind(AssertUnwindSafe(read))
        .unwrap_or_else(|_| Err(DocumentError::damaged("its reader failed")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_panics_is_a_damaged_document() {
        let numbers: Vec<u8> = Vec::new();
        let read = guarded(|| Ok(numbers[0].to_string()));
        assert_eq!(read, Err(DocumentError::damaged("its reader failed")));
    }
}
