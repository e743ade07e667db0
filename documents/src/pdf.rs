//! PDF (ISO 32000).

use pdf_extract::{Document as PdfDocument, OutputError};

use crate::markdown::Markdown;
use crate::{DocumentError, Limits};

pub fn read(content: &[u8], limits: &Limits) -> Result<String, DocumentError> {
    let document = PdfDocument::load_mem(content).map_err(DocumentError::damaged)?;
    if document.is_encrypted() {
        return Err(DocumentError::Encrypted);
    }
    limits.check_pages(document.get_pages().len())?;
    let pages =
        pdf_extract::extract_text_from_mem_by_pages(content).map_err(|error| match error {
            OutputError::PdfError(error) => DocumentError::damaged(error),
            _ => DocumentError::damaged("a page cannot be written"),
        })?;
    let mut markdown = Markdown::default();
    for page in pages {
        for paragraph in page.split("\n\n") {
            markdown.paragraph(&whole_words(paragraph));
        }
    }
    Ok(markdown.into_text())
}

/// Words that were cut at the end of a line are put together, ligatures become letters.
fn whole_words(paragraph: &str) -> String {
    const LIGATURES: [(&str, &str); 7] = [
        ("\u{fb00}", "ff"),
        ("\u{fb01}", "fi"),
        ("\u{fb02}", "fl"),
        ("\u{fb03}", "ffi"),
        ("\u{fb04}", "ffl"),
        ("\u{fb05}", "st"),
        ("\u{fb06}", "st"),
    ];
    let mut text = String::with_capacity(paragraph.len());
    for line in paragraph.lines().map(str::trim) {
        let is_cut = text.ends_with('-') && line.starts_with(char::is_lowercase);
        match text.strip_suffix('-') {
            Some(start) if is_cut && start.ends_with(char::is_alphabetic) => {
                text.truncate(start.len())
            }
            _ if !text.is_empty() => text.push('\n'),
            _ => {}
        }
        text.push_str(line);
    }
    LIGATURES.iter().fold(text, |text, (ligature, letters)| {
        match text.contains(ligature) {
            true => text.replace(ligature, letters),
            false => text,
        }
    })
}
