//! What a user writes into a search box: words, "phrases", minus words and prefixes*. Nothing is a syntax error.

/// A query taken apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// All that is looked for, phrases included, as plain words: what is embedded, and ranked by.
    pub text: String,
    /// What must be there word for word.
    pub phrases: Vec<String>,
    /// What must not be there.
    pub excluded: Vec<String>,
    /// Beginnings of words, without the star.
    pub prefixes: Vec<String>,
}

pub fn parse_query(input: &str) -> Query {
    let mut query = Query::default();
    let mut words: Vec<&str> = Vec::new();
    let mut rest = input.trim_start();
    while !rest.is_empty() {
        let (is_excluded, body) = match rest.strip_prefix('-') {
            // "-5" is a number.
            Some(body) if body.starts_with(|c: char| c == '"' || c.is_alphabetic()) => (true, body),
            _ => (false, rest),
        };
        let (part, is_phrase, after) = next_part(body);
        rest = after.trim_start();
        if part.trim().is_empty() {
            continue;
        }
        if is_excluded {
            query.excluded.push(part.to_owned());
            continue;
        }
        if is_phrase {
            query.phrases.push(part.to_owned());
        } else if let Some(beginning) = part.strip_suffix('*')
            && beginning.chars().count() >= PREFIX_CHARS_MIN
            && beginning.chars().all(char::is_alphanumeric)
        {
            query.prefixes.push(beginning.to_owned());
            words.push(beginning);
            continue;
        }
        words.push(part);
    }
    query.text = words.join(" ");
    query
}

/// Shorter beginnings fit too many words.
const PREFIX_CHARS_MIN: usize = 2;

/// The next word or phrase, whether it is a phrase, and what follows.
fn next_part(text: &str) -> (&str, bool, &str) {
    if let Some((phrase, after)) = text.strip_prefix('"').and_then(|rest| rest.split_once('"')) {
        return (phrase, true, after);
    }
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    (&text[..end], false, &text[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(input: &str) -> (String, Vec<String>, Vec<String>, Vec<String>) {
        let query = parse_query(input);
        (query.text, query.phrases, query.excluded, query.prefixes)
    }

    fn owned(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn parts() {
        assert_eq!(
            parsed(r#"why "spending freeze" -legal negot* -"price list" now?"#),
            (
                "why spending freeze negot now?".to_owned(),
                owned(&["spending freeze"]),
                owned(&["legal", "price list"]),
                owned(&["negot"])
            )
        );
    }

    #[test]
    fn what_only_looks_special() {
        for input in [
            "re-use of well-known",
            "-5 degrees",
            "12\" pipe",
            "a* b",
            "- dash",
            "c++ & | ! ( ) :* <->",
        ] {
            let query = parse_query(input);
            assert!(
                query.phrases.is_empty() && query.excluded.is_empty() && query.prefixes.is_empty(),
                "{query:?}"
            );
            assert_eq!(query.text, input.trim());
        }
        assert_eq!(parse_query(" \"\" \"  \" "), Query::default());
        assert_eq!(parse_query("-only -minus").text, "");
    }
}
