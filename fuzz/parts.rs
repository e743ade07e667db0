//! Archives of office documents around one part, so that fuzzing reaches what reads its XML.

use std::io::{Cursor, Write};

use zip::write::{SimpleFileOptions, ZipWriter};

/// The part that is given, and the others that a reader needs before it.
pub struct Part {
    pub name: &'static str,
    others: &'static [(&'static str, &'static str)],
}

const PACKAGE_RELATIONS: (&str, &str) = (
    "_rels/.rels",
    r#"<Relationships><Relationship Id="r1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" Target="xl/workbook.xml"/></Relationships>"#,
);
const WORKBOOK: (&str, &str) = (
    "xl/workbook.xml",
    r#"<workbook xmlns:r="r"><sheets><sheet name="a" sheetId="1" r:id="r1"/></sheets></workbook>"#,
);
const WORKBOOK_RELATIONS: (&str, &str) = (
    "xl/_rels/workbook.xml.rels",
    r#"<Relationships><Relationship Id="r1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet" Target="worksheets/sheet1.xml"/></Relationships>"#,
);
const SHEET: (&str, &str) = (
    "xl/worksheets/sheet1.xml",
    r#"<worksheet><sheetData><row r="1"><c r="A1" t="s"><v>0</v></c></row></sheetData></worksheet>"#,
);
const SLIDES: (&str, &str) = (
    "ppt/presentation.xml",
    r#"<p:presentation xmlns:p="p" xmlns:r="r"><p:sldIdLst><p:sldId id="1" r:id="r1"/></p:sldIdLst></p:presentation>"#,
);
const SLIDE_RELATIONS: (&str, &str) = (
    "ppt/_rels/presentation.xml.rels",
    r#"<Relationships><Relationship Id="r1" Type="slide" Target="slides/slide1.xml"/></Relationships>"#,
);
const CONTAINER: (&str, &str) = (
    "META-INF/container.xml",
    r#"<container><rootfiles><rootfile full-path="p.opf"/></rootfiles></container>"#,
);
const PACKAGE: (&str, &str) = (
    "p.opf",
    r#"<package><manifest><item id="a" href="a.xhtml"/></manifest><spine><itemref idref="a"/></spine></package>"#,
);
const EMPTY_DOCUMENT: (&str, &str) = (
    "word/document.xml",
    r#"<w:document xmlns:w="w"><w:body><w:p><w:r><w:t>a</w:t></w:r></w:p></w:body></w:document>"#,
);
const SPREADSHEET: (&str, &str) = ("mimetype", "application/vnd.oasis.opendocument.spreadsheet");
const MANIFEST: (&str, &str) = ("META-INF/manifest.xml", "<manifest/>");

/// The first byte of an input is the number of one.
pub const PARTS: [Part; 11] = [
    part("word/document.xml", &[]),
    part("word/styles.xml", &[EMPTY_DOCUMENT]),
    part("word/footnotes.xml", &[EMPTY_DOCUMENT]),
    part("ppt/slides/slide1.xml", &[SLIDES, SLIDE_RELATIONS]),
    part("ppt/presentation.xml", &[SLIDE_RELATIONS]),
    part(
        "xl/worksheets/sheet1.xml",
        &[PACKAGE_RELATIONS, WORKBOOK, WORKBOOK_RELATIONS],
    ),
    part(
        "xl/sharedStrings.xml",
        &[PACKAGE_RELATIONS, WORKBOOK, WORKBOOK_RELATIONS, SHEET],
    ),
    part(
        "xl/workbook.xml",
        &[PACKAGE_RELATIONS, WORKBOOK_RELATIONS, SHEET],
    ),
    part("content.xml", &[]),
    part("content.xml", &[SPREADSHEET, MANIFEST]),
    part("a.xhtml", &[CONTAINER, PACKAGE]),
];

const fn part(name: &'static str, others: &'static [(&'static str, &'static str)]) -> Part {
    Part { name, others }
}

/// The document whose part the input is; None where it names none.
pub fn archive(input: &[u8]) -> Option<Vec<u8>> {
    let (&number, content) = input.split_first()?;
    let part = PARTS.get(usize::from(number))?;
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let others = part
        .others
        .iter()
        .map(|(name, text)| (*name, text.as_bytes()));
    for (name, content) in others.chain([(part.name, content)]) {
        archive.start_file(name, stored).expect("write to memory");
        archive.write_all(content).expect("write to memory");
    }
    Some(archive.finish().expect("write to memory").into_inner())
}
