//! Word documents (ECMA-376, part 1, WordprocessingML). Headers, footers and comments are left out; deleted
//! text is, inserted text is not.

use std::collections::HashMap;

use roxmltree::Node;

use crate::archive::Archive;
use crate::markdown::Markdown;
use crate::{DocumentError, Limits, xml};

pub fn read(content: &[u8], limits: &Limits) -> Result<String, DocumentError> {
    let mut archive = Archive::open(content, limits)?;
    let styles = archive.text("word/styles.xml")?;
    let headings = styles.map_or(Ok(HashMap::new()), |styles| heading_styles(&styles))?;
    let notes = archive.text("word/footnotes.xml")?;
    let document = archive.needed_text("word/document.xml")?;
    let document = xml::parse(&document)?;
    let body = xml::find(document.root(), "body")
        .ok_or_else(|| DocumentError::damaged("the document has no body"))?;
    let mut markdown = Markdown::default();
    blocks(body, &headings, &mut markdown);
    if let Some(notes) = notes {
        let notes = xml::parse(&notes)?;
        for note in notes
            .descendants()
            .filter(|node| xml::is(*node, "footnote"))
        {
            markdown.paragraph(&text(note));
        }
    }
    Ok(markdown.into_text())
}

/// The level of each style that is a heading: by its outline level or its name, or that of the style it is
/// based on.
fn heading_styles(styles: &str) -> Result<HashMap<String, usize>, DocumentError> {
    let styles = xml::parse(styles)?;
    let mut levels = HashMap::new();
    let mut based_on = Vec::new();
    for style in styles.descendants().filter(|node| xml::is(*node, "style")) {
        let Some(id) = xml::attribute(style, "styleId") else {
            continue;
        };
        let value = |name| xml::find(style, name).and_then(|node| xml::attribute(node, "val"));
        let name = value("name").unwrap_or_default().to_lowercase();
        let named = name
            .strip_prefix("heading ")
            .and_then(|level| level.parse().ok());
        let outline = value("outlineLvl").and_then(|level| level.parse::<usize>().ok());
        let level = match name.as_str() {
            "title" => Some(1),
            _ => named.or(outline.filter(|level| *level < 9).map(|level| level + 1)),
        };
        match (level, value("basedOn")) {
            (Some(level), _) => {
                levels.insert(id.to_owned(), level);
            }
            (None, Some(base)) => based_on.push((id.to_owned(), base.to_owned())),
            (None, None) => {}
        }
    }
    for (id, base) in based_on {
        if let Some(level) = levels.get(&base).copied() {
            levels.insert(id, level);
        }
    }
    Ok(levels)
}

fn blocks(parent: Node<'_, '_>, headings: &HashMap<String, usize>, markdown: &mut Markdown) {
    for node in parent.children().filter(Node::is_element) {
        match node.tag_name().name() {
            "p" => {
                paragraph(node, headings, markdown);
                text_boxes(node, headings, markdown);
            }
            "tbl" => markdown.table(&rows(node)),
            // Content controls and custom XML wrap blocks.
            "sdt" | "sdtContent" | "customXml" | "smartTag" | "ins" => {
                blocks(node, headings, markdown)
            }
            _ => {}
        }
    }
}

fn paragraph(node: Node<'_, '_>, headings: &HashMap<String, usize>, markdown: &mut Markdown) {
    let properties = xml::children(node, "pPr").next();
    let property = |name| properties.and_then(|properties| xml::find(properties, name));
    let style = property("pStyle").and_then(|style| xml::attribute(style, "val"));
    let text = text(node);
    if let Some(level) = style.and_then(|style| headings.get(style)) {
        return markdown.heading(*level, &text);
    }
    let is_list =
        property("numPr").is_some() || style.is_some_and(|style| style.starts_with("List"));
    if is_list {
        let depth = property("ilvl").and_then(|level| xml::attribute(level, "val"));
        let depth = depth.and_then(|depth| depth.parse().ok()).unwrap_or(0);
        return markdown.item(depth, &text);
    }
    markdown.paragraph(&text);
}

/// Text boxes are anchored in a paragraph, and may be in one another.
fn text_boxes(paragraph: Node<'_, '_>, headings: &HashMap<String, usize>, markdown: &mut Markdown) {
    for text_box in paragraph
        .descendants()
        .filter(|node| xml::is(*node, "txbxContent"))
    {
        let above = text_box.ancestors().skip(1);
        let mut above = above.take_while(|above| *above != paragraph);
        // The same box is there once more for old programs; one within another comes with that one.
        if !above.any(|above| xml::is(above, "Fallback") || xml::is(above, "txbxContent")) {
            blocks(text_box, headings, markdown);
        }
    }
}

fn rows(table: Node<'_, '_>) -> Vec<Vec<String>> {
    let cell = |cell: Node<'_, '_>| {
        let is_fallback =
            |node: &Node<'_, '_>| node.ancestors().any(|above| xml::is(above, "Fallback"));
        let paragraphs = cell
            .descendants()
            .filter(|node| xml::is(*node, "p") && !is_fallback(node));
        paragraphs.map(text).collect::<Vec<_>>().join(" ")
    };
    xml::children(table, "tr")
        .map(|row| xml::children(row, "tc").map(cell).collect())
        .collect()
}

/// The text of a paragraph, without that of boxes in it.
fn text(node: Node<'_, '_>) -> String {
    let mut text = String::new();
    for part in node.descendants().filter(Node::is_element) {
        let of_this = |part: Node<'_, '_>| {
            let mut above = part.ancestors().take_while(|above| *above != node);
            !above.any(|above| xml::is(above, "txbxContent"))
        };
        match part.tag_name().name() {
            "t" if of_this(part) => text.push_str(part.text().unwrap_or_default()),
            "tab" | "ptab"
                if of_this(part) && !part.ancestors().any(|node| xml::is(node, "tabs")) =>
            {
                text.push(' ');
            }
            "br" | "cr" if of_this(part) => text.push('\n'),
            "noBreakHyphen" if of_this(part) => text.push('-'),
            _ => {}
        }
    }
    text
}
