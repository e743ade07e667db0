//! Goal: real documents, read in place beside the checkout, come out with their content or fail with the class
//! that they should.

use std::fs;
use std::path::{Path, PathBuf};

use documents::{Document, DocumentError, DocumentFormat, Limits};

/// Files, and what must be in their text, in this order.
const EXPECTED: [(&str, &[&str]); 40] = [
    (
        "markitdown/test.docx",
        &[
            "# AutoGen: Enabling Next-Gen LLM",
            "# Abstract",
            "# Introduction",
            "| ",
        ],
    ),
    (
        "markitdown/test.pptx",
        &["## AutoGen: Enabling", "Qingyun Wu"],
    ),
    (
        "markitdown/test.xlsx",
        &[
            "## Sheet1",
            "| Alpha | Beta | Gamma | Delta |",
            "| 89 | 82 | 100 | 12 |",
        ],
    ),
    (
        "markitdown/test.pdf",
        &["Introduction", "Large language models (LLMs)"],
    ),
    ("markitdown/rlink.docx", &["Testing Linked Images"]),
    (
        "markitdown/test_blog.html",
        &[
            "# Does Model and Inference Parameter Matter in LLM Applications?",
            "## Experiment Setup",
            "## Experiment Results",
        ],
    ),
    (
        "markitdown/movie-theater-booking-2024.pdf",
        &[
            "STARLIGHT CINEMAS",
            "Order / Rev: 2024-12-5678",
            "Totals 48 $12,500.00",
            "Sarah Johnson NYC Metro",
        ],
    ),
    (
        "markitdown/RECEIPT-2024-TXN-98765_retail_purchase.pdf",
        &[
            "TECHMART ELECTRONICS",
            "TXN: TXN-98765-2024",
            "Headphones - Premium Black",
        ],
    ),
    ("unstructured/fake.docx", &["Lorem ipsum dolor sit amet."]),
    (
        "unstructured/simple.docx",
        &[
            "# These are a few of my favorite things:",
            "Parrots",
            "- Hockey",
            "This is my first thought.",
        ],
    ),
    ("unstructured/docx-hdrftr.docx", &["Main document"]),
    (
        "unstructured/docx-tables.docx",
        &[
            "| Header Col 1 | Header Col 2 |",
            "Nested Table",
            "| d | e f g&t h | i |",
        ],
    ),
    (
        "unstructured/fake_table.docx",
        &["| Header Col 1 | Header Col 2 |", "Dolor sit amet"],
    ),
    (
        "unstructured/tables-with-incomplete-rows.docx",
        &["| a | b |", "| Dato |  |"],
    ),
    (
        "unstructured/example-list-items-multiple.docx",
        &["Lorem Ipsum\n\n- This is simply", "  - The quick brown fox"],
    ),
    (
        "unstructured/hlink-meta.docx",
        &["Two with link to bookmark.", "Nine."],
    ),
    (
        "unstructured/page-breaks.docx",
        &["First page, tab here:", "<<Text on second page."],
    ),
    (
        "unstructured/handbook-872p.docx",
        &[
            "Standing Trustees",
            "Table of Contents",
            "CHAPTER 1 - INTRODUCTION",
        ],
    ),
    (
        "unstructured/teams_chat.docx",
        &["0:0:0.0 --> 0:0:1.510\nSome Body\nOK. Yeah.", "James Bond"],
    ),
    (
        "unstructured/simple.pptx",
        &[
            "## Title Slide",
            "## Things to think about",
            "- Who do you think you are?",
        ],
    ),
    (
        "unstructured/fake-power-point-malformed.pptx",
        &["## Test Slide"],
    ),
    (
        "unstructured/fake-power-point-many-pages.pptx",
        &["## Page 1", "## Page 2"],
    ),
    (
        "unstructured/sample-presentation.pptx",
        &[
            "## Title Slide",
            "    - This one is a sub-sub-bullet",
            "| 2 | A2 | B2 | C2 |",
        ],
    ),
    (
        "unstructured/group-shapes-nested.pptx",
        &["## Slide 1", "A", "J", "H", "G"],
    ),
    (
        "unstructured/fake.odt",
        &[
            "Lorem ipsum dolor sit amet.",
            "| Color | Blue | Red | Green |",
        ],
    ),
    (
        "unstructured/fake-doc.rtf",
        &[
            "# My First Heading\n\nMy first paragraph.",
            "| Column 1 | Column 2 |",
            "| Row 2, Cell 1 | Row 2, Cell 2 |",
        ],
    ),
    (
        "unstructured/winter-sports.epub",
        &["Winter Sports in Switzerland", "E. F. Benson"],
    ),
    (
        "unstructured/stanley-cups.csv",
        &["| Team | Location | Stanley Cups |", "| Flyers | PHI | 2 |"],
    ),
    (
        "unstructured/stanley-cups.xlsx",
        &[
            "## Stanley Cups",
            "| Blues | STL | 1 |",
            "## Stanley Cups Since 67",
        ],
    ),
    (
        "unstructured/tests-example.xls",
        &["## Example Test", "What is 2+2?", "Bagpipes are awesome."],
    ),
    (
        "unstructured/vodafone.xlsx",
        &[
            "## Index",
            "| Topic | Period |",
            "Nine quarters to 30 June 2023",
        ],
    ),
    (
        "unstructured/2023-half-year-analyses-by-segment.xlsx",
        &["3. Analyses by segment", "In millions of CHF"],
    ),
    (
        "unstructured/fake-html-cp1252.html",
        &["# My First Heading", "15,50 €", "L'été"],
    ),
    (
        "unstructured/example-steelJIS-datasheet-utf-16.html",
        &["# SteelJIS"],
    ),
    (
        "unstructured/example-10k.html",
        &["FORM 10-K", "Risk Factors"],
    ),
    (
        "unstructured/example-with-scripts.html",
        &["## Search form", "Who We Are"],
    ),
    (
        "unstructured/fake-text-utf-16.txt",
        &["This is a test document to use for unit tests."],
    ),
    (
        "unstructured/norwich-city.txt",
        &["Iwan Roberts", "Bangor, Wales"],
    ),
    (
        "unstructured/pdf__multi-column-2p.pdf",
        &[
            "Dense Passage Retrieval",
            "Abstract",
            "efficient",
            "practically implemented",
        ],
    ),
    (
        "unstructured/pdf__layout-parser-paper-fast.pdf",
        &["LayoutParser: A Unified Toolkit", "Zejiang Shen"],
    ),
];

/// Files that cannot be read, by the class of their error.
const REFUSED: [(&str, DocumentError); 2] = [
    ("unstructured/pdf__password.pdf", DocumentError::Encrypted),
    ("unstructured/pdf__single_table.pdf", DocumentError::NoText),
];

fn folder() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/documents");
    let is_there = folder.is_dir();
    if !is_there {
        println!("skipped: there is no ../shared/data/documents");
    }
    is_there.then_some(folder)
}

fn read(file: &Path) -> Result<Document, DocumentError> {
    let content = fs::read(file).expect("read a file");
    let name = file.file_name().expect("a name").to_string_lossy();
    let format = DocumentFormat::detect(&content, &name, None)?;
    documents::read(&content, format, &Limits::default())
}

#[test]
fn content_is_there_in_its_order() {
    let Some(folder) = folder() else { return };
    for (name, parts) in EXPECTED {
        let document = read(&folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut rest = document.markdown.as_str();
        for part in parts {
            let at = rest
                .find(part)
                .unwrap_or_else(|| panic!("{name}: no {part:?} in {rest:.2000}"));
            rest = &rest[at + part.len()..];
        }
    }
}

/// Goal: the words of a PDF, all of them and no others, are those of the text that came with it, nearly all in its
/// order. Whether numbers side by side are a table is seen by each reader in its own way.
#[test]
fn words_are_the_expected_ones() {
    let Some(folder) = folder() else { return };
    let folder = folder.join("markitdown");
    for (pdf, expected, in_order) in [
        ("test.pdf", "test.md", 0.99),
        (
            "movie-theater-booking-2024.pdf",
            "movie-theater-booking-2024.md",
            0.85,
        ),
        (
            "RECEIPT-2024-TXN-98765_retail_purchase.pdf",
            "RECEIPT-2024-TXN-98765_retail_purchase.md",
            0.99,
        ),
    ] {
        let expected = fs::read_to_string(folder.join("expected_outputs").join(expected));
        // It leaves words cut at the ends of lines, which we put together.
        let expected = words(&expected.expect("read a file").replace("-\n", ""));
        let found = words(&read(&folder.join(pdf)).expect("a document").markdown);
        let (all, same) = (
            expected.len().max(found.len()),
            in_common(&expected, &found),
        );
        let ordered = longest_common_subsequence(&expected, &found);
        println!(
            "{pdf}: {} words expected, {} found, {same} the same, {ordered} in order",
            expected.len(),
            found.len()
        );
        assert!(same as f64 >= 0.995 * all as f64, "{pdf}");
        assert!(ordered as f64 >= in_order * all as f64, "{pdf}");
    }
}

fn words(text: &str) -> Vec<String> {
    text.split(|character: char| !character.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

fn in_common(expected: &[String], found: &[String]) -> usize {
    let mut left = expected.to_vec();
    let mut is_there = |word: &&String| match left.iter().position(|other| other == *word) {
        Some(at) => {
            left.swap_remove(at);
            true
        }
        None => false,
    };
    found.iter().filter(|word| is_there(word)).count()
}

fn longest_common_subsequence(expected: &[String], found: &[String]) -> usize {
    let mut lengths = vec![0; found.len() + 1];
    for word in expected {
        let mut diagonal = 0;
        for (at, other) in found.iter().enumerate() {
            let above = lengths[at + 1];
            lengths[at + 1] = match word == other {
                true => diagonal + 1,
                false => above.max(lengths[at]),
            };
            diagonal = above;
        }
    }
    lengths[found.len()]
}

/// Goal: every file ends in text or in the right class, whatever it is called.
#[test]
fn every_file_ends_well() {
    let Some(folder) = folder() else { return };
    let mut count = 0;
    for part in ["markitdown", "unstructured"] {
        for file in fs::read_dir(folder.join(part)).expect("list files") {
            let file = file.expect("a file").path();
            if file.is_dir() || file.ends_with("LICENSE") {
                continue;
            }
            count += 1;
            let name = format!(
                "{part}/{}",
                file.file_name().expect("a name").to_string_lossy()
            );
            let refused = REFUSED.iter().find(|(refused, _)| *refused == name);
            match (read(&file), refused) {
                (Ok(_), None) => {}
                (Err(error), Some((_, expected))) => assert_eq!(&error, expected, "{name}"),
                (read, _) => panic!("{name}: {read:?}"),
            }
        }
    }
    assert!(count >= 60, "{count} files");
}

/// Goal: a file that ends early is damaged or shorter, never a panic.
#[test]
fn files_cut_short_end_well() {
    let Some(folder) = folder() else { return };
    for (name, _) in EXPECTED {
        let content = fs::read(folder.join(name)).expect("read a file");
        let limits = Limits::default();
        let Ok(format) = DocumentFormat::detect(&content, name, None) else {
            panic!("{name} has no format");
        };
        for share in [1, 4, 8, 12, 15] {
            let cut = &content[..content.len() * share / 16];
            let _ = documents::read(cut, format, &limits);
        }
    }
}
