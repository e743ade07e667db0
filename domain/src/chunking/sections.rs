//! Headings of a Markdown document.

/// Headings between which a chunk's place is named.
const LEVELS: usize = 6;
/// Longest title that is repeated in front of a chunk, in characters: it counts in every embedding.
const TITLE_CHARS_MAX: usize = 80;

/// For each block of a document the titles of the section that it stands in, outermost first and joined by ` > `;
/// a heading stands in its own section.
pub fn section_titles<'a>(blocks: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut open: [Option<String>; LEVELS] = Default::default();
    blocks
        .into_iter()
        .map(|block| {
            if let Some((level, title)) = heading(block) {
                open[level - 1] = Some(title.chars().take(TITLE_CHARS_MAX).collect());
                open[level..].fill(None);
            }
            let titles: Vec<&str> = open.iter().flatten().map(String::as_str).collect();
            titles.join(" > ")
        })
        .collect()
}

/// Level (1 to 6) and title of a block that is an ATX heading (CommonMark 4.2).
fn heading(block: &str) -> Option<(usize, &str)> {
    let level = block.bytes().take_while(|&byte| byte == b'#').count();
    let title = block.get(level..)?.strip_prefix(' ')?.trim();
    let is_heading = (1..=LEVELS).contains(&level) && !title.is_empty() && !title.contains('\n');
    is_heading.then_some((level, title))
}

#[cfg(test)]
mod tests {
    use super::section_titles;

    /// Goal: a deeper heading nests, a higher one closes what is below it, and what is no heading changes nothing.
    #[test]
    fn titles_nest() {
        let blocks = [
            "Preface",
            "# Offer",
            "Text",
            "### Price",
            "#no heading",
            "## Terms",
            "Text",
            "# End",
        ];
        let expected = [
            "",
            "Offer",
            "Offer",
            "Offer > Price",
            "Offer > Price",
            "Offer > Terms",
            "Offer > Terms",
            "End",
        ];
        assert_eq!(section_titles(blocks), expected);
        assert_eq!(
            section_titles(["####### seven", "# ", "#\u{e9}"]),
            ["", "", ""]
        );
    }
}
