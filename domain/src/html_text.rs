//! HTML to text: what a reader would see, with a blank line between blocks.

use crate::markup::decode_entity;

/// Elements whose content nobody reads.
const HIDDEN: &[&str] = &["style", "script", "template", "title", "noscript"];

/// Elements that begin and end a paragraph.
const BLOCKS: &[&str] = &[
    "address",
    "article",
    "blockquote",
    "dd",
    "div",
    "dl",
    "dt",
    "fieldset",
    "footer",
    "form",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "header",
    "hr",
    "main",
    "ol",
    "p",
    "pre",
    "section",
    "table",
    "ul",
];

/// Elements that begin a line.
const LINES: &[&str] = &["br", "li", "tr"];

/// Quotations within quotations that are marked; deeper ones look like the last.
const QUOTE_DEPTH_MAX: usize = 8;

/// The readable text of an HTML document.
pub(crate) fn html_to_text(html: &str) -> String {
    read_html(html, false)
}

/// The readable text of an HTML mail: lines of quotations begin with `>`, as in plain text (RFC 3676, section 4.5).
pub(crate) fn html_mail_to_text(html: &str) -> String {
    read_html(html, true)
}

fn read_html(html: &str, marks_quotes: bool) -> String {
    let mut writer = TextWriter {
        text: String::with_capacity(html.len() / 2),
        gap: Gap::None,
        quotes: Vec::new(),
        quote_depth: 0,
    };
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        writer.write(&rest[..at]);
        rest = &rest[at..];
        if let Some(comment) = rest.strip_prefix("<!--") {
            rest = comment.find("-->").map_or("", |end| &comment[end + 3..]);
            continue;
        }
        let Some(tag) = Tag::read(rest) else {
            writer.write("<");
            rest = &rest[1..];
            continue;
        };
        rest = &rest[tag.length..];
        if HIDDEN.contains(&tag.name.as_str()) && !tag.is_closing {
            rest = after_closing_tag(rest, &tag.name);
        } else if BLOCKS.contains(&tag.name.as_str()) {
            writer.widen(Gap::Paragraph);
            if marks_quotes && tag.name == "blockquote" {
                match tag.is_closing {
                    true => writer.close_quote(),
                    false => writer.open_quote(tag.is_cited()),
                }
            }
        } else if LINES.contains(&tag.name.as_str()) {
            writer.new_line();
        } else if matches!(tag.name.as_str(), "td" | "th") {
            writer.widen(Gap::Space);
        }
    }
    writer.write(rest);
    writer.text
}

struct Tag<'a> {
    name: String,
    is_closing: bool,
    attributes: &'a str,
    length: usize,
}

impl<'a> Tag<'a> {
    /// Reads the tag that `text` begins with; an unfinished one reaches to the next `<` or the end.
    fn read(text: &'a str) -> Option<Self> {
        let inside = text.strip_prefix('<')?;
        let is_closing = inside.starts_with('/');
        let name_start = inside.trim_start_matches('/');
        if !name_start.starts_with(|c: char| c.is_ascii_alphabetic() || c == '!' || c == '?') {
            return None;
        }
        let end = inside.find(['<', '>']).unwrap_or(inside.len());
        let name_end = name_start
            .find(|c: char| c.is_whitespace() || matches!(c, '>' | '/' | '<'))
            .unwrap_or(name_start.len());
        let has_bracket = inside[end..].starts_with('>');
        Some(Self {
            name: name_start[..name_end].to_ascii_lowercase(),
            is_closing,
            attributes: name_start[name_end..].split(['<', '>']).next()?,
            length: 1 + end + usize::from(has_bracket),
        })
    }

    /// Whether a `blockquote` has a mark of mail programs' quotations; others indent a paragraph.
    fn is_cited(&self) -> bool {
        let mut attributes = self.attributes.to_ascii_lowercase();
        attributes.retain(|character| !character.is_whitespace());
        ["cite", "quote", "border-left"]
            .iter()
            .any(|mark| attributes.contains(mark))
    }
}

/// What follows the closing tag of a hidden element; nothing if it never closes.
fn after_closing_tag<'a>(html: &'a str, name: &str) -> &'a str {
    let mut rest = html;
    while let Some(at) = rest.find("</") {
        rest = &rest[at..];
        match Tag::read(rest) {
            Some(tag) if tag.name == name => return &rest[tag.length..],
            _ => rest = &rest[2..],
        }
    }
    ""
}

/// The white space that is due before the next word.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Gap {
    None,
    Space,
    Line,
    Paragraph,
}

struct TextWriter {
    text: String,
    gap: Gap,
    /// Of each open element that may be a quotation, whether it is one.
    quotes: Vec<bool>,
    quote_depth: usize,
}

impl TextWriter {
    /// Writes text between tags: entities decoded, white space collapsed across tags.
    fn write(&mut self, raw: &str) {
        let mut rest = raw;
        while let Some(at) = rest.find('&') {
            self.write_words(&rest[..at]);
            rest = &rest[at..];
            match decode_entity(rest) {
                Some((decoded, length)) => {
                    self.write_words(&decoded);
                    rest = &rest[length..];
                }
                None => {
                    self.write_words("&");
                    rest = &rest[1..];
                }
            }
        }
        self.write_words(rest);
    }

    fn write_words(&mut self, words: &str) {
        for character in words.chars() {
            if character.is_whitespace() {
                self.widen(Gap::Space);
            } else if !character.is_control() {
                self.write_gap();
                self.text.push(character);
            }
        }
    }

    fn write_gap(&mut self) {
        if !self.text.is_empty() {
            self.text.push_str(match self.gap {
                Gap::None => "",
                Gap::Space => " ",
                Gap::Line => "\n",
                Gap::Paragraph => "\n\n",
            });
        }
        if self.quote_depth > 0 && (self.text.is_empty() || self.text.ends_with('\n')) {
            self.text
                .push_str(&"> ".repeat(self.quote_depth.min(QUOTE_DEPTH_MAX)));
        }
        self.gap = Gap::None;
    }

    fn open_quote(&mut self, is_quote: bool) {
        self.quotes.push(is_quote);
        self.quote_depth += usize::from(is_quote);
    }

    fn close_quote(&mut self) {
        let was_quote = self.quotes.pop().unwrap_or_default();
        self.quote_depth -= usize::from(was_quote);
    }

    fn widen(&mut self, gap: Gap) {
        self.gap = self.gap.max(gap);
    }

    /// Two line breaks in a row make a paragraph.
    fn new_line(&mut self) {
        let gap = if self.gap >= Gap::Line {
            Gap::Paragraph
        } else {
            Gap::Line
        };
        self.widen(gap);
    }
}

#[cfg(test)]
#[path = "html_text_tests.rs"]
mod tests;
