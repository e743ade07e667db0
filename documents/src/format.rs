//! Which format a file has: by what it begins with, then by its media type or name.

use std::io::Cursor;

use crate::DocumentError;

/// A format that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DocumentFormat {
    Pdf,
    Docx,
    Pptx,
    Xlsx,
    Xls,
    Ods,
    Odt,
    Epub,
    Rtf,
    Html,
    Csv,
    Markdown,
    Text,
}

/// Names: of the format, its media type, and the endings of file names.
const FORMATS: [(DocumentFormat, &str, &str, &[&str]); 13] = {
    use DocumentFormat::{
        Csv, Docx, Epub, Html, Markdown, Ods, Odt, Pdf, Pptx, Rtf, Text, Xls, Xlsx,
    };
    [
        (Pdf, "pdf", "application/pdf", &["pdf"]),
        (
            Docx,
            "docx",
            "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
            &["docx", "docm"],
        ),
        (
            Pptx,
            "pptx",
            "application/vnd.openxmlformats-officedocument.presentationml.presentation",
            &["pptx", "pptm", "ppsx"],
        ),
        (
            Xlsx,
            "xlsx",
            "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
            &["xlsx", "xlsm"],
        ),
        (Xls, "xls", "application/vnd.ms-excel", &["xls"]),
        (
            Ods,
            "ods",
            "application/vnd.oasis.opendocument.spreadsheet",
            &["ods"],
        ),
        (
            Odt,
            "odt",
            "application/vnd.oasis.opendocument.text",
            &["odt"],
        ),
        (Epub, "epub", "application/epub+zip", &["epub"]),
        (Rtf, "rtf", "application/rtf", &["rtf"]),
        (Html, "html", "text/html", &["html", "htm", "xhtml"]),
        (Csv, "csv", "text/csv", &["csv", "tsv"]),
        (Markdown, "markdown", "text/markdown", &["md", "markdown"]),
        (Text, "text", "text/plain", &["txt", "text", "log"]),
    ]
};

impl DocumentFormat {
    pub fn name(self) -> &'static str {
        self.entry().1
    }

    pub fn media_type(self) -> &'static str {
        self.entry().2
    }

    fn entry(self) -> &'static (Self, &'static str, &'static str, &'static [&'static str]) {
        // Every format has its line, in their order.
        &FORMATS[self as usize]
    }

    fn from_media_type(media_type: &str) -> Option<Self> {
        let essence = media_type.split(';').next().unwrap_or_default().trim();
        let mut formats = FORMATS.iter();
        formats
            .find(|format| format.2.eq_ignore_ascii_case(essence))
            .map(|format| format.0)
    }

    fn from_file_name(file_name: &str) -> Option<Self> {
        let (_, ending) = file_name.rsplit_once('.')?;
        let mut formats = FORMATS.iter();
        formats
            .find(|format| {
                format
                    .3
                    .iter()
                    .any(|known| known.eq_ignore_ascii_case(ending))
            })
            .map(|format| format.0)
    }

    /// The format of a file; its content decides where it is unmistakable.
    pub fn detect(
        content: &[u8],
        file_name: &str,
        media_type: Option<&str>,
    ) -> Result<Self, DocumentError> {
        if content.is_empty() {
            return Err(DocumentError::NoText);
        }
        if let Some(format) = Self::from_content(content)? {
            return Ok(format);
        }
        let named =
            Self::from_file_name(file_name).or_else(|| media_type.and_then(Self::from_media_type));
        match named {
            Some(format) if format.is_text() => Ok(format),
            // Named as something that its content is not.
            Some(_) => Err(DocumentError::damaged(
                "its content is not of the format that it is named as",
            )),
            None if looks_like_text(content) => Ok(Self::Text),
            None => Err(DocumentError::UnknownFormat),
        }
    }

    fn is_text(self) -> bool {
        matches!(self, Self::Html | Self::Csv | Self::Markdown | Self::Text)
    }

    fn from_content(content: &[u8]) -> Result<Option<Self>, DocumentError> {
        // A PDF may have something before its header (PDF 1.7, annex H, 3.4.1).
        let start = &content[..content.len().min(1024)];
        if start.windows(5).any(|bytes| bytes == b"%PDF-") {
            return Ok(Some(Self::Pdf));
        }
        if content.starts_with(b"{\\rtf") {
            return Ok(Some(Self::Rtf));
        }
        if content.starts_with(&[0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1]) {
            return from_compound_file(content).map(Some);
        }
        if content.starts_with(b"PK") {
            return from_archive(content).map(Some);
        }
        Ok(None)
    }
}

/// Old office documents, and new ones that are encrypted, are compound files: their directory has entries of 128
/// bytes, each of which begins with a name in UTF-16 (MS-CFB, 2.6.1).
fn from_compound_file(content: &[u8]) -> Result<DocumentFormat, DocumentError> {
    let has = |name: &str| {
        let name: Vec<u8> = name
            .encode_utf16()
            .chain([0])
            .flat_map(u16::to_le_bytes)
            .collect();
        content
            .chunks_exact(128)
            .any(|entry| entry.starts_with(&name))
    };
    if has("EncryptedPackage") {
        return Err(DocumentError::Encrypted);
    }
    match has("Workbook") || has("Book") {
        true => Ok(DocumentFormat::Xls),
        false => Err(DocumentError::UnknownFormat),
    }
}

fn from_archive(content: &[u8]) -> Result<DocumentFormat, DocumentError> {
    let archive = zip::ZipArchive::new(Cursor::new(content))
        .map_err(|_| DocumentError::damaged("its archive cannot be read"))?;
    let has = |name: &str| archive.index_for_name(name).is_some();
    let has_below = |prefix: &str| {
        archive
            .file_names()
            .flatten()
            .any(|name| name.starts_with(prefix))
    };
    if has_below("word/") {
        return Ok(DocumentFormat::Docx);
    }
    if has_below("ppt/") {
        return Ok(DocumentFormat::Pptx);
    }
    if has_below("xl/") {
        return Ok(DocumentFormat::Xlsx);
    }
    if has("META-INF/container.xml") {
        return Ok(DocumentFormat::Epub);
    }
    if has("content.xml") {
        let start = String::from_utf8_lossy(&content[..content.len().min(200)]).into_owned();
        return Ok(match start.contains("opendocument.spreadsheet") {
            true => DocumentFormat::Ods,
            false => DocumentFormat::Odt,
        });
    }
    Err(DocumentError::UnknownFormat)
}

fn looks_like_text(content: &[u8]) -> bool {
    let start = &content[..content.len().min(4096)];
    let has_bom = start.starts_with(&[0xff, 0xfe]) || start.starts_with(&[0xfe, 0xff]);
    has_bom || !start.contains(&0)
}
