//! Rich Text Format (Microsoft, version 1.9.1): its text, with paragraphs, tables and outline levels.
//!
//! Own code, since the libraries there are drop the ends of paragraphs.

use encoding_rs::{Encoding, WINDOWS_1252};

use crate::markdown::Markdown;
use crate::{DocumentError, Limits};

/// Groups in one another; real files have a dozen.
const DEPTH_MAX: usize = 1_000;

/// Groups whose text is not the document's.
const DESTINATIONS: [&str; 22] = [
    "fonttbl",
    "colortbl",
    "stylesheet",
    "info",
    "pict",
    "header",
    "headerl",
    "headerr",
    "headerf",
    "footer",
    "footerl",
    "footerr",
    "footerf",
    "object",
    "themedata",
    "colorschememapping",
    "datastore",
    "latentstyles",
    "listtable",
    "listoverridetable",
    "rsidtbl",
    "xmlnstbl",
];

pub fn read(content: &[u8], limits: &Limits) -> Result<String, DocumentError> {
    let mut reader = Reader {
        rest: content,
        groups: vec![Group::default()],
        encoding: WINDOWS_1252,
        bytes: Vec::new(),
        skip: 0,
        high_half: None,
        text: String::new(),
        row: Vec::new(),
        rows: Vec::new(),
        markdown: Markdown::default(),
    };
    while let Some(token) = next(&mut reader.rest) {
        reader.take(token)?;
        limits.check_text(reader.text.len())?;
    }
    reader.end_paragraph();
    reader.end_table();
    Ok(reader.markdown.into_text())
}

enum Token<'a> {
    Open,
    Close,
    /// Its name and number.
    Word(&'a [u8], Option<i32>),
    Symbol(u8),
    /// A byte in the encoding of the document.
    Byte(u8),
}

/// What a group keeps to itself.
#[derive(Debug, Clone, Copy)]
struct Group {
    /// Not the document's text.
    is_hidden: bool,
    /// Hidden text of the document (`\\v`).
    is_invisible: bool,
    /// Bytes that stand in for a Unicode character (`\uc`).
    stand_ins: usize,
    outline_level: Option<usize>,
}

impl Group {
    fn is_shown(self) -> bool {
        !self.is_hidden && !self.is_invisible
    }
}

impl Default for Group {
    fn default() -> Self {
        Self {
            is_hidden: false,
            is_invisible: false,
            stand_ins: 1,
            outline_level: None,
        }
    }
}

struct Reader<'a> {
    rest: &'a [u8],
    groups: Vec<Group>,
    encoding: &'static Encoding,
    /// Bytes that are not decoded yet.
    bytes: Vec<u8>,
    /// Bytes that still stand in for a character.
    skip: usize,
    high_half: Option<u16>,
    /// Of the paragraph or cell.
    text: String,
    row: Vec<String>,
    rows: Vec<Vec<String>>,
    markdown: Markdown,
}

impl Reader<'_> {
    fn take(&mut self, token: Token<'_>) -> Result<(), DocumentError> {
        match token {
            Token::Byte(_) if self.skip > 0 => self.skip -= 1,
            Token::Byte(byte) if self.group().is_shown() => self.bytes.push(byte),
            Token::Byte(_) => {}
            Token::Open => {
                self.decode();
                if self.groups.len() == DEPTH_MAX {
                    return Err(DocumentError::damaged("its groups are nested too deeply"));
                }
                let group = *self.group();
                self.groups.push(group);
            }
            Token::Close => {
                self.decode();
                self.skip = 0;
                if self.groups.len() == 1 {
                    return Err(DocumentError::damaged("a group ends that did not begin"));
                }
                self.groups.pop();
            }
            Token::Symbol(symbol) => self.take_symbol(symbol),
            Token::Word(name, number) => {
                self.decode();
                self.take_word(name, number);
            }
        }
        Ok(())
    }

    fn group(&mut self) -> &mut Group {
        let last = self.groups.len() - 1;
        &mut self.groups[last]
    }

    fn take_symbol(&mut self, symbol: u8) {
        match symbol {
            // What follows is for programs that know it.
            b'*' => self.group().is_hidden = true,
            b'~' => self.push(" "),
            b'_' => self.push("-"),
            b'\n' | b'\r' => self.end_paragraph(),
            b'{' | b'}' | b'\\' => self.push(char::from(symbol).encode_utf8(&mut [0; 4])),
            _ => {}
        }
    }

    fn take_word(&mut self, name: &[u8], number: Option<i32>) {
        let Ok(name) = std::str::from_utf8(name) else {
            return;
        };
        match name {
            "par" | "sect" | "page" => self.end_paragraph(),
            "line" => self.push("\n"),
            "tab" => self.push(" "),
            "cell" | "nestcell" => {
                let cell = std::mem::take(&mut self.text);
                self.row.push(cell);
            }
            "row" | "nestrow" => {
                let row = std::mem::take(&mut self.row);
                self.rows.push(row);
            }
            "pard" => self.group().outline_level = None,
            "outlinelevel" => {
                self.group().outline_level = number.and_then(|level| usize::try_from(level).ok());
            }
            "ansicpg" => {
                let label = format!("windows-{}", number.unwrap_or(1252));
                self.encoding = Encoding::for_label(label.as_bytes()).unwrap_or(WINDOWS_1252);
            }
            "uc" => {
                self.group().stand_ins = number
                    .and_then(|count| usize::try_from(count).ok())
                    .unwrap_or(1)
            }
            "u" => {
                // A signed 16-bit number; halves of pairs come one after the other.
                let unit = number.unwrap_or(0) as u16;
                self.push_unit(unit);
                self.skip = self.group().stand_ins;
            }
            "bin" => {
                let count = number
                    .and_then(|count| usize::try_from(count).ok())
                    .unwrap_or(0);
                self.rest = self.rest.get(count..).unwrap_or_default();
            }
            "emdash" => self.push("—"),
            "endash" => self.push("–"),
            "lquote" => self.push("‘"),
            "rquote" => self.push("’"),
            "ldblquote" => self.push("“"),
            "rdblquote" => self.push("”"),
            "bullet" => self.push("•"),
            "v" => self.group().is_invisible = number != Some(0),
            "plain" => self.group().is_invisible = false,
            name if DESTINATIONS.contains(&name) => self.group().is_hidden = true,
            _ => {}
        }
    }

    fn push(&mut self, text: &str) {
        self.decode();
        if self.group().is_shown() {
            self.text.push_str(text);
        }
    }

    /// A unit of UTF-16; a high half waits for the low one.
    fn push_unit(&mut self, unit: u16) {
        let units = self.high_half.take().into_iter().chain([unit]);
        for character in char::decode_utf16(units) {
            match character {
                Ok(character) => self.push(character.encode_utf8(&mut [0; 4])),
                Err(half) if half.unpaired_surrogate() < 0xdc00 => {
                    self.high_half = Some(half.unpaired_surrogate());
                }
                Err(_) => self.push("\u{fffd}"),
            }
        }
    }

    /// The bytes so far as text.
    fn decode(&mut self) {
        if !self.bytes.is_empty() {
            let (text, _) = self.encoding.decode_without_bom_handling(&self.bytes);
            self.text.push_str(&text);
            self.bytes.clear();
        }
    }

    fn end_paragraph(&mut self) {
        self.decode();
        if !self.row.is_empty() {
            // Within a cell.
            self.text.push(' ');
            return;
        }
        self.end_table();
        let text = std::mem::take(&mut self.text);
        match self.group().outline_level.filter(|level| *level < 9) {
            Some(level) => self.markdown.heading(level + 1, &text),
            None => self.markdown.paragraph(&text),
        }
    }

    fn end_table(&mut self) {
        let rows = std::mem::take(&mut self.rows);
        self.markdown.table(&rows);
    }
}

fn next<'a>(rest: &mut &'a [u8]) -> Option<Token<'a>> {
    loop {
        let (&first, behind) = rest.split_first()?;
        *rest = behind;
        return Some(match first {
            b'{' => Token::Open,
            b'}' => Token::Close,
            b'\\' => control(rest)?,
            // Lines of the file mean nothing.
            b'\n' | b'\r' | 0 => continue,
            byte => Token::Byte(byte),
        });
    }
}

/// What follows a backslash.
fn control<'a>(rest: &mut &'a [u8]) -> Option<Token<'a>> {
    let (&first, behind) = rest.split_first()?;
    if first == b'\'' {
        let digits = behind.get(..2)?;
        *rest = &behind[2..];
        let text = std::str::from_utf8(digits).ok();
        return Some(Token::Byte(
            text.and_then(|text| u8::from_str_radix(text, 16).ok())
                .unwrap_or(b'?'),
        ));
    }
    if !first.is_ascii_alphabetic() {
        *rest = behind;
        return Some(Token::Symbol(first));
    }
    let name = prefix(rest, |byte| byte.is_ascii_alphabetic());
    let is_negative = rest.first() == Some(&b'-');
    if is_negative {
        *rest = &rest[1..];
    }
    let digits = prefix(rest, |byte| byte.is_ascii_digit());
    let number = std::str::from_utf8(digits)
        .ok()
        .and_then(|digits| digits.parse::<i32>().ok());
    if rest.first() == Some(&b' ') {
        *rest = &rest[1..];
    }
    Some(Token::Word(
        name,
        number.map(|number| if is_negative { -number } else { number }),
    ))
}

fn prefix<'a>(rest: &mut &'a [u8], is_part: impl Fn(&u8) -> bool) -> &'a [u8] {
    let count = rest.iter().take_while(|byte| is_part(byte)).count();
    let (part, behind) = rest.split_at(count);
    *rest = behind;
    part
}

#[cfg(test)]
mod tests {
    //! Goal: paragraphs, tables, encodings and characters of Unicode come out as a reader sees them.

    use super::*;

    #[track_caller]
    fn check(rtf: &str, markdown: &str) {
        assert_eq!(
            read(rtf.as_bytes(), &Limits::default()).unwrap(),
            markdown,
            "{rtf}"
        );
    }

    #[test]
    fn text_is_read() {
        check(
            r"{\rtf1 one\par two {\b bold}\line three\par}",
            "one\n\ntwo bold\nthree\n",
        );
        check(
            r"{\rtf1{\fonttbl{\f0 Arial;}}{\*\generator x;}text}",
            "text\n",
        );
        check(r"{\rtf1\ansicpg1251 \'cf\'f0\'e8\'e2\'e5\'f2}", "Привет\n");
        check(r"{\rtf1\uc1 \u8364?5 \u-10179?\u-8704?}", "€5 😀\n");
        check(
            r"{\rtf1{\pard\outlinelevel1 Head\par}body\par}",
            "## Head\n\nbody\n",
        );
        check(
            r"{\rtf1\trowd a\cell b\cell\row c\cell d\cell\row after\par}",
            "| a | b |\n| --- | --- |\n| c | d |\n\nafter\n",
        );
        check(r"{\rtf1 a\{b\}\~c\v hidden\v0 }", "a{b} c\n");
    }

    #[test]
    fn damaged_files_are_refused() {
        for rtf in [r"{\rtf1 a}}", &"{".repeat(2_000)] {
            let read = read(rtf.as_bytes(), &Limits::default());
            assert!(matches!(read, Err(DocumentError::Damaged { .. })));
        }
        assert!(read(b"{\\rtf1 cut off \\'4", &Limits::default()).is_ok());
    }
}
