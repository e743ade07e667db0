//! XML as a tree, by local names: office formats use one name for one thing.

use roxmltree::{Document, Node, ParsingOptions};

use crate::DocumentError;

/// Elements and texts of one file: far above what real documents have.
const NODES_MAX: u32 = 8_000_000;

pub fn parse(text: &str) -> Result<Document<'_>, DocumentError> {
    let options = ParsingOptions {
        allow_dtd: true,
        nodes_limit: NODES_MAX,
        ..ParsingOptions::default()
    };
    Document::parse_with_options(text, options)
        // Its message names places, not words.
        .map_err(|error| DocumentError::damaged(format!("XML at {}", error.pos())))
}

pub fn is(node: Node<'_, '_>, name: &str) -> bool {
    node.is_element() && node.tag_name().name() == name
}

/// The first element of this name below.
pub fn find<'a, 'i>(node: Node<'a, 'i>, name: &str) -> Option<Node<'a, 'i>> {
    node.descendants().find(|node| is(*node, name))
}

pub fn children<'a, 'i>(
    node: Node<'a, 'i>,
    name: &'static str,
) -> impl Iterator<Item = Node<'a, 'i>> {
    node.children().filter(move |node| is(*node, name))
}

/// An attribute by its local name.
pub fn attribute<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    let mut attributes = node.attributes();
    attributes
        .find(|attribute| attribute.name() == name)
        .map(|attribute| attribute.value())
}
