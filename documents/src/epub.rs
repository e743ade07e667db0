//! EPUB (W3C, EPUB 3.3): chapters in reading order.

use std::collections::HashMap;

use crate::archive::Archive;
use crate::{DocumentError, Limits, html, xml};

pub fn read(content: &[u8], limits: &Limits) -> Result<String, DocumentError> {
    let mut archive = Archive::open(content, limits)?;
    if archive
        .text("META-INF/encryption.xml")?
        .is_some_and(|text| text.contains("EncryptedKey"))
    {
        return Err(DocumentError::Encrypted);
    }
    let container = archive.needed_text("META-INF/container.xml")?;
    let package = xml::find(xml::parse(&container)?.root(), "rootfile")
        .and_then(|file| xml::attribute(file, "full-path"))
        .ok_or_else(|| DocumentError::damaged("the container names no package"))?
        .to_owned();
    let chapters = chapters(&archive.needed_text(&package)?, &package)?;
    limits.check_pages(chapters.len())?;
    let mut texts = Vec::new();
    for chapter in chapters {
        if let Some(page) = archive.text(&chapter)? {
            texts.push(html::to_markdown(&page)?);
        }
    }
    texts.retain(|text| !text.trim().is_empty());
    Ok(texts.join("\n\n"))
}

/// Files of the spine, as names in the archive.
fn chapters(text: &str, package: &str) -> Result<Vec<String>, DocumentError> {
    let folder = package
        .rsplit_once('/')
        .map_or(String::new(), |(folder, _)| format!("{folder}/"));
    let document = xml::parse(text)?;
    let items = document.descendants().filter(|node| xml::is(*node, "item"));
    let items: HashMap<_, _> = items
        .filter_map(|item| Some((xml::attribute(item, "id")?, item)))
        .collect();
    let spine = document
        .descendants()
        .filter(|node| xml::is(*node, "itemref"));
    let file = |reference| {
        let id = xml::attribute(reference, "idref")?;
        let item = items.get(id)?;
        let target = xml::attribute(*item, "href")?.replace("%20", " ");
        Some(format!("{folder}{target}"))
    };
    Ok(spine.filter_map(file).collect())
}
