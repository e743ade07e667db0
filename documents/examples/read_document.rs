//! Prints a document as Markdown: `read_document FILE`.

use documents::{Document, DocumentFormat, Limits};

fn main() {
    let Some(file) = std::env::args().nth(1) else {
        eprintln!("usage: read_document FILE");
        std::process::exit(2);
    };
    let content = std::fs::read(&file).expect("read the file");
    let read = DocumentFormat::detect(&content, &file, None)
        .and_then(|format| documents::read(&content, format, &Limits::default()));
    match read {
        Ok(Document { markdown, .. }) => print!("{markdown}"),
        Err(error) => {
            eprintln!("{error}");
            std::process::exit(1);
        }
    }
}
