//! Markdown, block by block.

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
        let line = |row: &[String]| {
            let filled = (0..width).map(|column| row.get(column).map_or("", String::as_str));
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

/// The text of the first heading.
pub fn first_heading(markdown: &str) -> Option<String> {
    let headings = markdown.lines().filter_map(|line| {
        let text = line.trim_start_matches('#');
        let level = line.len() - text.len();
        ((1..=6).contains(&level) && text.starts_with(' ')).then(|| text.trim().to_owned())
    });
    headings.into_iter().find(|text| !text.is_empty())
}
