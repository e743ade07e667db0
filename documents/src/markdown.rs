//! Markdown, block by block.

/// Cells of a table up to which its rows are filled up.
const CELLS_FILLED_MAX: usize = 1_000_000;

/// Collects blocks.
#[derive(Default)]
pub struct Markdown {
    text: String,
    /// Whether the last block is an item of a list.
    is_in_list: bool,
}

impl Markdown {
    pub fn into_text(self) -> String {
        self.text
    }

    /// `level`: from 1; deeper ones than 6 become 6.
    pub fn heading(&mut self, level: usize, text: &str) {
        let text = one_line(text);
        if !text.is_empty() {
            let marks = "#".repeat(level.clamp(1, 6));
            self.block(&format!("{marks} {text}"));
        }
    }

    /// Lines stay lines.
    pub fn paragraph(&mut self, text: &str) {
        let lines: Vec<String> = text.lines().map(one_line).collect();
        let text = lines.join("\n");
        let text = text.trim_matches('\n');
        if !text.is_empty() {
            self.block(text);
        }
    }

    /// `depth`: from 0.
    pub fn item(&mut self, depth: usize, text: &str) {
        let text = one_line(text);
        if text.is_empty() {
            return;
        }
        let is_continued = self.is_in_list;
        let item = format!("{}- {text}", "  ".repeat(depth.min(8)));
        if is_continued {
            self.text.push_str(&item);
            self.text.push('\n');
        } else {
            self.block(&item);
        }
        self.is_in_list = true;
    }

    /// The first row is the head; rows are filled up to the longest.
    pub fn table(&mut self, rows: &[Vec<String>]) {
        let rows: Vec<Vec<String>> = rows
            .iter()
            .map(|row| {
                row.iter()
                    .map(|cell| one_line(cell).replace('|', "\\|"))
                    .collect()
            })
            .filter(|row: &Vec<String>| row.iter().any(|cell| !cell.is_empty()))
            .collect();
        let width = rows.iter().map(Vec::len).max().unwrap_or(0);
        let Some((head, body)) = rows.split_first() else {
            return;
        };
        // One row that is very wide does not make all others so.
        let width = if rows.len() * width > CELLS_FILLED_MAX {
            0
        } else {
            width
        };
        let line = |row: &[String]| {
            let filled =
                (0..width.max(row.len())).map(|column| row.get(column).map_or("", String::as_str));
            let cells: Vec<&str> = filled.collect();
            format!("| {} |", cells.join(" | "))
        };
        let mut lines = vec![line(head), format!("|{}", " --- |".repeat(width))];
        lines.extend(body.iter().map(|row| line(row)));
        self.block(&lines.join("\n"));
    }

    fn block(&mut self, text: &str) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.text.push_str(text);
        self.text.push('\n');
        self.is_in_list = false;
    }
}

/// White space collapsed.
pub fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Characters of a title that are kept.
const TITLE_CHARS_MAX: usize = 200;

/// The text of the first heading.
pub fn first_heading(markdown: &str) -> Option<String> {
    let headings = markdown.lines().filter_map(|line| {
        let text = line.trim_start_matches('#');
        let level = line.len() - text.len();
        ((1..=6).contains(&level) && text.starts_with(' ')).then(|| text.trim().to_owned())
    });
    let mut headings = headings.filter(|text| !text.is_empty() && !is_number_of_slide(text));
    let title = headings.next()?;
    Some(title.chars().take(TITLE_CHARS_MAX).collect())
}

/// What a slide without a title is called.
pub fn number_of_slide(number: usize) -> String {
    format!("Slide {number}")
}

fn is_number_of_slide(heading: &str) -> bool {
    let number = heading.strip_prefix("Slide ");
    number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
}
