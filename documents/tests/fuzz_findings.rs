//! Goal: what fuzzing found once does not come back.

use std::io::{Cursor, Write};

use documents::{DocumentError, DocumentFormat, Limits};
use zip::write::{SimpleFileOptions, ZipWriter};

/// An archive of these files.
fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, text) in files {
        archive
            .start_file(*name, SimpleFileOptions::default())
            .expect("write to memory");
        archive.write_all(text.as_bytes()).expect("write to memory");
    }
    archive.finish().expect("write to memory").into_inner()
}

fn read_ods(content: &str) -> Result<documents::Document, DocumentError> {
    let file = archive(&[
        ("mimetype", "application/vnd.oasis.opendocument.spreadsheet"),
        ("META-INF/manifest.xml", "<manifest/>"),
        ("content.xml", content),
    ]);
    documents::read(&file, DocumentFormat::Ods, &Limits::default())
}

/// 2026-11-30: repeated rows are filled in; the empty ones that end every sheet are not.
#[test]
fn rows_that_are_repeated() {
    let table = |rows: &str| {
        read_ods(&format!(
            r#"<office:document-content xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0"
                xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0"
                xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0"><office:body><office:spreadsheet>
                <table:table table:name="a">{rows}</table:table></office:spreadsheet></office:body></office:document-content>"#
        ))
    };
    let cell = |repeated: &str| {
        format!(
            r#"<table:table-cell office:value-type="string"{repeated}><text:p>x</text:p></table:table-cell>"#
        )
    };
    let end = r#"<table:table-row table:number-rows-repeated="1048000"><table:table-cell table:number-columns-repeated="16384"/></table:table-row>"#;
    let small = table(&format!(
        "<table:table-row>{}</table:table-row>{end}",
        cell("")
    ));
    assert!(small.expect("a small sheet").markdown.contains("| x |"));
    let wide = cell(r#" table:number-columns-repeated="1000""#);
    let large = table(&format!(
        r#"<table:table-row table:number-rows-repeated="100000">{wide}</table:table-row>"#
    ));
    let limit = Limits::default().cells;
    let what = "cells";
    assert_eq!(large, Err(DocumentError::TooLarge { what, limit }));
}

/// 2026-11-30: the reader of OpenDocument spreadsheets went on for ever.
#[test]
fn a_table_without_end() {
    let content = r#"<office:document-content xmlns:office="o" xmlns:table="t"><office:body>
        <office:spreadsheet><table:table table:name="a"><table:table-row>"#;
    let read = read_ods(content);
    assert!(
        matches!(read, Err(DocumentError::Damaged { .. })),
        "{read:?}"
    );
}

/// A workbook with one sheet of these rows.
fn workbook(rows: &str, strings: &str) -> Vec<u8> {
    let sheet = format!("<worksheet><sheetData>{rows}</sheetData></worksheet>");
    archive(&[
        (
            "_rels/.rels",
            r#"<Relationships><Relationship Id="r1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" Target="xl/workbook.xml"/></Relationships>"#,
        ),
        (
            "xl/workbook.xml",
            r#"<workbook xmlns:r="r"><sheets><sheet name="a" sheetId="1" r:id="r1"/></sheets></workbook>"#,
        ),
        (
            "xl/_rels/workbook.xml.rels",
            r#"<Relationships><Relationship Id="r1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet" Target="worksheets/sheet1.xml"/></Relationships>"#,
        ),
        ("xl/sharedStrings.xml", &format!("<sst>{strings}</sst>")),
        ("xl/worksheets/sheet1.xml", &sheet),
    ])
}

/// 2026-11-30: two cells far apart took room for all between them; one text in many cells takes its length each time.
#[test]
fn sheets_that_claim_much() {
    let limits = Limits::default();
    let read = |file: &[u8]| documents::read(file, DocumentFormat::Xlsx, &limits);
    let near = r#"<row r="1"><c r="A1"><v>1</v></c></row><row r="3"><c r="C3"><v>2</v></c></row>"#;
    let text = read(&workbook(near, "")).expect("a small sheet").markdown;
    assert!(text.contains("| 1 |") && text.contains('2'), "{text}");
    let far = r#"<row r="1"><c r="A1"><v>1</v></c></row><row r="1048576"><c r="XFD1048576"><v>2</v></c></row>"#;
    let refused = read(&workbook(far, ""));
    let too_large = |what, limit| Err(DocumentError::TooLarge { what, limit });
    assert_eq!(refused, too_large("cells", limits.cells));
    let cells: String = (1..=100)
        .map(|row| format!(r#"<row r="{row}"><c r="A{row}" t="s"><v>0</v></c></row>"#))
        .collect();
    let long = format!("<si><t>{}</t></si>", "a".repeat(1 << 20));
    let refused = read(&workbook(&cells, &long));
    assert_eq!(refused, too_large("bytes of text", limits.text_bytes));
}

/// A PDF of one page whose parent is object 2; objects 3 and 4 are given.
fn pdf(parent_of_pages: &str, resources: &str, form: &str) -> Vec<u8> {
    let objects = [
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        format!("<< /Type /Pages /Kids [3 0 R] /Count 1 {parent_of_pages} >>"),
        format!(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 99 99] {resources} /Contents 4 0 R >>"
        ),
        "<< /Length 7 >>\nstream\n/F1 Do \nendstream".to_owned(),
        format!(
            "<< /Type /XObject /Subtype /Form /Length 14 {form} >>\nstream\n/F1 Do /F1 Do \nendstream"
        ),
    ];
    let mut file = "%PDF-1.4\n".to_owned();
    let mut table = "0000000000 65535 f \n".to_owned();
    for (index, object) in objects.iter().enumerate() {
        table += &format!("{:010} 00000 n \n", file.len());
        file += &format!("{} 0 obj\n{object}\nendobj\n", index + 1);
    }
    let start = file.len();
    file += &format!(
        "xref\n0 6\n{table}trailer\n<< /Size 6 /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n"
    );
    file.into_bytes()
}

/// 2026-12-02: a page among its own parents, and a form that draws itself, took all of the stack.
#[test]
fn circles_in_a_pdf() {
    let read = |file: &[u8]| documents::read(file, DocumentFormat::Pdf, &Limits::default());
    let forms = "/Resources << /XObject << /F1 5 0 R >> >>";
    let parents = read(&pdf("/Parent 2 0 R", "", ""));
    let damaged = |reason: &str| DocumentError::Damaged {
        reason: reason.to_owned(),
    };
    assert_eq!(parents, Err(damaged("the parents of a page have no end")));
    for form in ["", forms] {
        let drawn = read(&pdf("", forms, form));
        assert_eq!(drawn, Err(damaged("its forms draw each other")), "{form}");
    }
    // It draws nothing that there is.
    let other = "/Resources << /XObject << >> >>";
    let read = read(&pdf("", forms, other));
    assert!(
        !matches!(&read, Err(DocumentError::Damaged { reason }) if reason.contains("forms")),
        "{read:?}"
    );
}
