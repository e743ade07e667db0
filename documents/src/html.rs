//! Web pages.

use htmd::element_handler::Handlers;
use htmd::options::{HeadingStyle, Options};
use htmd::{Element, HtmlToMarkdown};

use crate::{DocumentError, encoding};

/// Elements nested in one another: a page beyond this would exhaust the stack.
const DEPTH_MAX: usize = 500;

pub fn read(content: &[u8]) -> Result<String, DocumentError> {
    to_markdown(&encoding::decode_html(content)?)
}

pub fn to_markdown(page: &str) -> Result<String, DocumentError> {
    if depth(page) > DEPTH_MAX {
        return Err(DocumentError::TooLarge {
            what: "depth of elements",
            limit: DEPTH_MAX,
        });
    }
    let converter = HtmlToMarkdown::builder()
        .skip_tags(vec![
            "script",
            "style",
            "noscript",
            "template",
            "svg",
            "head",
            "iframe",
            "object",
            "img",
            "ix:header",
        ])
        // Addresses mean nothing to search and models.
        .add_handler(vec!["a"], |handlers: &dyn Handlers, link: Element| {
            Some(handlers.walk_children(link.node))
        })
        .options(Options {
            heading_style: HeadingStyle::Atx,
            ..Options::default()
        })
        .build();
    let text = converter
        .convert(page)
        .map_err(|_| DocumentError::damaged("it cannot be written as Markdown"))?;
    Ok(text.trim().to_owned() + "\n")
}

/// The most elements that may be open at once, by a rough count: an end counts for the innermost element alone.
fn depth(page: &str) -> usize {
    let mut open: Vec<&str> = Vec::new();
    let mut deepest = 0;
    for (at, _) in page.match_indices('<') {
        let tag = &page[at + 1..];
        match tag.bytes().next() {
            Some(b'/')
                if open
                    .last()
                    .is_some_and(|name| name.eq_ignore_ascii_case(name_of(&tag[1..]))) =>
            {
                open.pop();
            }
            Some(c) if c.is_ascii_alphabetic() && !is_void(tag) => open.push(name_of(tag)),
            _ => {}
        }
        deepest = deepest.max(open.len());
    }
    deepest
}

fn name_of(tag: &str) -> &str {
    tag.split(|c: char| !c.is_ascii_alphanumeric())
        .next()
        .unwrap_or_default()
}

/// Whether a tag has no end (HTML, 13.1.2), or one that is mostly left out.
fn is_void(tag: &str) -> bool {
    const VOID: [&str; 20] = [
        "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source",
        "track", "wbr", "p", "li", "td", "tr", "th", "option", "dd",
    ];
    VOID.iter()
        .any(|void| void.eq_ignore_ascii_case(name_of(tag)))
}
