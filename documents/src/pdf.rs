//! PDF (ISO 32000).

use pdf_extract::{Document as PdfDocument, PlainTextOutput, output_doc_page};

use crate::markdown::Markdown;
use crate::{DocumentError, Limits, pdf_nesting};

pub fn read(content: &[u8], limits: &Limits) -> Result<String, DocumentError> {
    let damaged = |_| DocumentError::damaged("its objects cannot be read");
    let document = PdfDocument::load_mem(content).map_err(damaged)?;
    if document.is_encrypted() {
        return Err(DocumentError::Encrypted);
    }
    let pages = document.get_pages();
    limits.check_pages(pages.len())?;
    let mut markdown = Markdown::default();
    for (number, id) in pages {
        pdf_nesting::check(&document, id)?;
        let mut page = String::new();
        let mut output = PlainTextOutput::new(&mut page);
        output_doc_page(&document, &mut output, number)
            .map_err(|_| DocumentError::damaged(format!("page {number} cannot be read")))?;
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
