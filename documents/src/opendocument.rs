//! Texts of OpenDocument (ISO/IEC 26300).

use roxmltree::Node;

use crate::archive::Archive;
use crate::markdown::Markdown;
use crate::{DocumentError, Limits, xml};

pub fn read(content: &[u8], limits: &Limits) -> Result<String, DocumentError> {
    let mut archive = Archive::open(content, limits)?;
    check_not_encrypted(&mut archive)?;
    let text = archive.needed_text("content.xml")?;
    let document = xml::parse(&text)?;
    let body = xml::find(document.root(), "body")
        .ok_or_else(|| DocumentError::damaged("the document has no body"))?;
    let mut markdown = Markdown::default();
    blocks(body, 0, &mut markdown);
    Ok(markdown.into_text())
}

/// The manifest says how each part is encrypted.
pub fn check_not_encrypted(archive: &mut Archive<'_>) -> Result<(), DocumentError> {
    let manifest = archive.text("META-INF/manifest.xml")?;
    match manifest.is_some_and(|manifest| manifest.contains("encryption-data")) {
        true => Err(DocumentError::Encrypted),
        false => Ok(()),
    }
}

/// `depth`: lists around.
fn blocks(parent: Node<'_, '_>, depth: usize, markdown: &mut Markdown) {
    for node in parent.children().filter(Node::is_element) {
        match node.tag_name().name() {
            "h" => {
                let level = xml::attribute(node, "outline-level");
                markdown.heading(
                    level.and_then(|level| level.parse().ok()).unwrap_or(1),
                    &text(node),
                );
            }
            "p" if depth > 0 => markdown.item(depth - 1, &text(node)),
            "p" => markdown.paragraph(&text(node)),
            "list" => blocks(node, depth + 1, markdown),
            "table" => markdown.table(&rows(node)),
            "tracked-changes" | "forms" | "sequence-decls" => {}
            // Sections, list items, frames and the like only wrap.
            _ => blocks(node, depth, markdown),
        }
    }
}

fn rows(table: Node<'_, '_>) -> Vec<Vec<String>> {
    let cell = |cell: Node<'_, '_>| {
        let paragraphs = cell.descendants().filter(|node| xml::is(*node, "p"));
        paragraphs.map(text).collect::<Vec<_>>().join(" ")
    };
    table
        .descendants()
        .filter(|node| xml::is(*node, "table-row"))
        .map(|row| xml::children(row, "table-cell").map(cell).collect())
        .collect()
}

fn text(node: Node<'_, '_>) -> String {
    let mut text = String::new();
    for part in node.descendants() {
        if part.is_text() {
            let is_note = part.ancestors().any(|above| xml::is(above, "annotation"));
            text.push_str(if is_note {
                ""
            } else {
                part.text().unwrap_or_default()
            });
        }
        match part.tag_name().name() {
            "s" => {
                let count = xml::attribute(part, "c").and_then(|count| count.parse().ok());
                text.push_str(&" ".repeat(count.unwrap_or(1).min(80)));
            }
            "tab" => text.push(' '),
            "line-break" => text.push('\n'),
            _ => {}
        }
    }
    text
}
