//! Presentations (ECMA-376, part 1, PresentationML): slides in their order, each under a heading, with its notes.

use std::collections::HashMap;

use roxmltree::Node;

use crate::archive::Archive;
use crate::markdown::{Markdown, number_of_slide};
use crate::{DocumentError, Limits, xml};

pub fn read(content: &[u8], limits: &Limits) -> Result<String, DocumentError> {
    let mut archive = Archive::open(content, limits)?;
    let slides = slides(&mut archive)?;
    limits.check_pages(slides.len())?;
    let mut markdown = Markdown::default();
    for (number, slide) in (1..).zip(&slides) {
        let text = archive.needed_text(slide)?;
        let document = xml::parse(&text)?;
        write_slide(number, document.root(), &mut markdown);
        let notes = relations(&mut archive, slide)?;
        let notes = notes
            .into_values()
            .find(|target| target.contains("notesSlide"));
        if let Some(notes) = notes
            .map(|notes| archive.text(&notes))
            .transpose()?
            .flatten()
        {
            write_notes(xml::parse(&notes)?.root(), &mut markdown);
        }
    }
    Ok(markdown.into_text())
}

/// Files of the slides, in the order of the presentation.
fn slides(archive: &mut Archive<'_>) -> Result<Vec<String>, DocumentError> {
    let presentation = archive.needed_text("ppt/presentation.xml")?;
    let presentation = xml::parse(&presentation)?;
    let targets = relations(archive, "ppt/presentation.xml")?;
    let ids = presentation
        .descendants()
        .filter(|node| xml::is(*node, "sldId"));
    // A slide has a number of its own and the id of its relation, both called `id`.
    let relation = |node: Node<'_, '_>| {
        let mut attributes = node.attributes();
        attributes.find_map(|attribute| targets.get(attribute.value()).cloned())
    };
    Ok(ids.filter_map(relation).collect())
}

/// Targets of a part's relations, by their ids, as names in the archive.
fn relations(
    archive: &mut Archive<'_>,
    part: &str,
) -> Result<HashMap<String, String>, DocumentError> {
    let (folder, name) = part.rsplit_once('/').unwrap_or(("", part));
    let Some(text) = archive.text(&format!("{folder}/_rels/{name}.rels"))? else {
        return Ok(HashMap::new());
    };
    let document = xml::parse(&text)?;
    let relations = document
        .descendants()
        .filter(|node| xml::is(*node, "Relationship"));
    Ok(relations
        .filter_map(|relation| {
            let id = xml::attribute(relation, "Id")?;
            let target = xml::attribute(relation, "Target")?;
            Some((id.to_owned(), resolved(folder, target)))
        })
        .collect())
}

/// A target relative to a folder.
fn resolved(folder: &str, target: &str) -> String {
    if let Some(absolute) = target.strip_prefix('/') {
        return absolute.to_owned();
    }
    let mut parts: Vec<&str> = folder.split('/').collect();
    for part in target.split('/') {
        match part {
            ".." => {
                parts.pop();
            }
            "." | "" => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn write_slide(number: usize, slide: Node<'_, '_>, markdown: &mut Markdown) {
    let shapes: Vec<Node<'_, '_>> = slide
        .descendants()
        .filter(|node| xml::is(*node, "sp") || xml::is(*node, "graphicFrame"))
        .collect();
    let title = shapes
        .iter()
        .find(|shape| is_placeholder(**shape, &["title", "ctrTitle"]));
    let heading = title.map(|title| {
        paragraphs(*title)
            .into_iter()
            .map(|(_, text)| text)
            .collect::<Vec<_>>()
            .join(" ")
    });
    let heading = heading.filter(|heading| !heading.trim().is_empty());
    markdown.heading(2, &heading.unwrap_or_else(|| number_of_slide(number)));
    for shape in &shapes {
        if Some(shape) == title || is_placeholder(*shape, &["sldNum", "ftr", "dt"]) {
            continue;
        }
        if let Some(table) = xml::find(*shape, "tbl") {
            markdown.table(&rows(table));
            continue;
        }
        let paragraphs = paragraphs(*shape);
        let is_list = paragraphs.len() > 1;
        for (depth, text) in paragraphs {
            match is_list {
                true => markdown.item(depth, &text),
                false => markdown.paragraph(&text),
            }
        }
    }
}

fn write_notes(notes: Node<'_, '_>, markdown: &mut Markdown) {
    let shapes = notes.descendants().filter(|node| xml::is(*node, "sp"));
    for shape in shapes.filter(|shape| is_placeholder(*shape, &["body"])) {
        for (_, text) in paragraphs(shape) {
            markdown.paragraph(&text);
        }
    }
}

fn is_placeholder(shape: Node<'_, '_>, types: &[&str]) -> bool {
    xml::find(shape, "ph")
        .and_then(|placeholder| xml::attribute(placeholder, "type"))
        .is_some_and(|kind| types.contains(&kind))
}

/// Depth and text of each paragraph.
fn paragraphs(shape: Node<'_, '_>) -> Vec<(usize, String)> {
    let paragraphs = shape.descendants().filter(|node| xml::is(*node, "p"));
    paragraphs
        .map(|paragraph| {
            let depth = xml::children(paragraph, "pPr").next();
            let depth = depth.and_then(|properties| xml::attribute(properties, "lvl"));
            (
                depth.and_then(|depth| depth.parse().ok()).unwrap_or(0),
                text(paragraph),
            )
        })
        .filter(|(_, text)| !text.trim().is_empty())
        .collect()
}

fn rows(table: Node<'_, '_>) -> Vec<Vec<String>> {
    xml::children(table, "tr")
        .map(|row| {
            xml::children(row, "tc")
                .map(|cell| {
                    paragraphs(cell)
                        .into_iter()
                        .map(|(_, text)| text)
                        .collect::<Vec<_>>()
                        .join(" ")
                })
                .collect()
        })
        .collect()
}

fn text(paragraph: Node<'_, '_>) -> String {
    let mut text = String::new();
    for part in paragraph.descendants().filter(Node::is_element) {
        match part.tag_name().name() {
            "t" => text.push_str(part.text().unwrap_or_default()),
            "br" => text.push('\n'),
            _ => {}
        }
    }
    text
}
