//! What people say without meaning it, taken out of what is searched and embedded of a talk: marks of the transcriber,
//! filler words, stutters. What was said stays as it is in the segments.

mod speech;

use std::borrow::Cow;

use speech::{MARKS, Speech, speech};

/// `text` without marks, fillers and stutters; `language` is ISO 639-1, and decides what is a filler or a stutter.
/// White space becomes single blanks where something was taken out.
pub fn clean<'a>(text: &'a str, language: Option<&str>) -> Cow<'a, str> {
    let unmarked = without_marks(text);
    let Some(speech) = language.and_then(speech) else {
        return unmarked;
    };
    let words: Vec<&str> = unmarked.split_whitespace().collect();
    let mut kept: Vec<Word> = Vec::with_capacity(words.len());
    for (index, text) in words.iter().enumerate() {
        let before = index.checked_sub(1).map(|index| words[index]);
        if is_filler(speech, text, before) {
            end_with(&mut kept, text);
        } else {
            kept.push(Word {
                text: Cow::Borrowed(text),
                is_interrupted: false,
            });
        }
    }
    let is_meant = |index: &usize| {
        let before = index.checked_sub(1).map(|index| &*kept[index].text);
        let next = kept.get(index + 1);
        !next.is_some_and(|next| is_stutter(speech, before, &kept[*index], &next.text))
    };
    let meant: Vec<&str> = (0..kept.len())
        .filter(is_meant)
        .map(|index| &*kept[index].text)
        .collect();
    if meant == words {
        return unmarked;
    }
    Cow::Owned(meant.join(" "))
}

struct Word<'a> {
    text: Cow<'a, str>,
    /// A filler stood behind it.
    is_interrupted: bool,
}

/// Without what stands around it.
fn bare(word: &str) -> &str {
    word.trim_matches(|character: char| !character.is_alphanumeric() && character != '\'')
}

/// As the lists have it.
fn folded(word: &str) -> String {
    bare(word).to_lowercase().replace('\u{2019}', "'")
}

/// "ER" is a name, and "10 mm" a length.
fn is_filler(speech: &Speech, word: &str, before: Option<&str>) -> bool {
    let capitals = word.chars().filter(|character| character.is_uppercase());
    let is_measured = before.is_some_and(|before| before.ends_with(|c: char| c.is_ascii_digit()));
    capitals.count() < 2 && !is_measured && speech.fillers.contains(&folded(word).as_str())
}

/// A sentence that ends with a filler still ends; a comma goes with it.
fn end_with(kept: &mut [Word], filler: &str) {
    let Some(last) = kept.last_mut() else {
        return;
    };
    last.is_interrupted = true;
    let end = filler.chars().last();
    let Some(end) = end.filter(|end| ['.', '?', '!'].contains(end)) else {
        return;
    };
    let text = last.text.trim_end_matches([',', '-', ';']);
    if !text.ends_with(['.', '?', '!']) {
        last.text = Cow::Owned(format!("{text}{end}"));
    }
}

/// Whether a word is said again at once: whole, or as the start of the next word.
fn is_stutter(speech: &Speech, before: Option<&str>, word: &Word, next: &str) -> bool {
    let text = &*word.text;
    let (first, second) = (folded(text), folded(next));
    let is_clause = text.ends_with(',') && !word.is_interrupted && !speech.over_commas;
    if first.is_empty() || ends_part(text) || is_clause {
        return false;
    }
    let is_cut_off = text.ends_with('-')
        && first.chars().count() <= 4
        && first.chars().all(char::is_alphabetic)
        && second.starts_with(&first);
    is_cut_off
        || first == second
            && speech.stuttered.contains(&first.as_str())
            && is_written_alike(before, text, next)
}

/// "van Van Dijk" and "ask IT it takes" have names; "The the" begins a sentence.
fn is_written_alike(before: Option<&str>, word: &str, next: &str) -> bool {
    let (word, next) = (bare(word), bare(next));
    let capitals = word.chars().filter(|character| character.is_uppercase());
    word == next
        || before.is_none_or(ends_part)
            && capitals.count() == 1
            && !next.starts_with(char::is_uppercase)
}

/// Whether a sentence ends here, or what announces another.
fn ends_part(word: &str) -> bool {
    let is_closing = |c: char| {
        matches!(
            c,
            '"' | '\'' | ')' | ']' | '\u{201c}' | '\u{201d}' | '\u{2019}' | '»'
        )
    };
    let word = word.trim_end_matches(is_closing);
    word.ends_with(['.', '?', '!', '\u{2026}', ':', ';'])
}

fn without_marks(text: &str) -> Cow<'_, str> {
    let mut cleaned = String::new();
    let mut rest = text;
    while let Some(open) = rest.find(['[', '(', '{', '<']) {
        let close = match rest.as_bytes()[open] {
            b'[' => ']',
            b'(' => ')',
            b'{' => '}',
            _ => '>',
        };
        let inside = rest[open + 1..]
            .find(close)
            .map(|length| &rest[open + 1..open + 1 + length]);
        match inside {
            Some(inside) if MARKS.contains(&inside.trim().to_lowercase().as_str()) => {
                cleaned.push_str(rest[..open].trim_end());
                let after = &rest[open + inside.len() + 2..];
                // "the [inaudible] price": one blank is left.
                rest = after.trim_start();
                if !cleaned.is_empty()
                    && !rest.is_empty()
                    && !rest.starts_with(['.', ',', '?', '!', ';', ':'])
                {
                    cleaned.push(' ');
                }
            }
            _ => {
                cleaned.push_str(&rest[..=open]);
                rest = &rest[open + 1..];
            }
        }
    }
    cleaned.push_str(rest);
    match cleaned == text {
        true => Cow::Borrowed(text),
        false => Cow::Owned(cleaned),
    }
}

#[cfg(test)]
mod tests {
    use super::clean;
    use super::speech::LANGUAGES;

    fn check(text: &str, expected: &str) {
        assert_eq!(clean(text, Some("en")), expected);
        // What is clean stays so.
        assert_eq!(clean(expected, Some("en")), expected);
    }

    /// Goal: marks, fillers and stutters go; words, placeholders, repetitions on purpose and other languages stay.
    #[test]
    fn what_goes_and_what_stays() {
        check("Um, so the, uh, price is 15%.", "so the, price is 15%.");
        check(
            "I I I think we we should w- wait.",
            "I think we should wait.",
        );
        check("It is late, um.", "It is late.");
        check("Is it late, uh?", "Is it late?");
        check("I, uh, I think. The the price.", "I think. the price.");
        check(
            "the [inaudible] price (laughter) is {vocalsound}.",
            "the price is.",
        );
        check("{disfmarker}", "");
        check(
            "Call [phone] (the new one) <now>",
            "Call [phone] (the new one) <now>",
        );
        check(
            "I said that that is very, very good. No no no.",
            "I said that that is very, very good. No no no.",
        );
        check("Yes it is. It is.", "Yes it is. It is.");
        check("An e-mail, a so-so plan", "An e-mail, a so-so plan");
        check("[", "[");
        assert_eq!(clean("Um dia [music]", None), "Um dia");
        assert_eq!(clean("", Some("en")), "");
    }

    /// Goal: each language loses its own sounds, and keeps words that are sounds elsewhere, that its grammar doubles, or
    /// that are somebody's name.
    #[test]
    fn languages() {
        for (language, text, expected) in [
            (
                "de",
                "Ähm, wir wir kommen um zehn [lacht], äh, wenn sie sie sehen.",
                "wir kommen um zehn, wenn sie sie sehen.",
            ),
            (
                "fr",
                "Euh, c\u{2019}est c\u{2019}est vrai que nous nous voyons (rires) demain.",
                "c\u{2019}est vrai que nous nous voyons demain.",
            ),
            (
                "es",
                "Eh, el el precio, ehm, es este.",
                "el precio, es este.",
            ),
            ("it", "Ehm, il il prezzo è alto.", "il prezzo è alto."),
            (
                "pt",
                "Hum, os os preços, ahn, de teste.",
                "os preços, de teste.",
            ),
            ("nl", "Eh, ik ik weet dat dat kan.", "ik weet dat dat kan."),
        ] {
            assert_eq!(clean(text, Some(language)), expected);
            assert_eq!(clean(expected, Some(language)), expected);
        }
        assert_eq!(
            clean("Um, vi vi [musik] går.", Some("sv")),
            "Um, vi vi går."
        );
        for (language, text) in [
            (
                "nl",
                "Log in in Salesforce, platen van 10 mm dik, het voorstel van Van Dijk.",
            ),
            ("nl", "een een twee"),
            ("pt", "Quando você para para pensar, se se confirmar."),
            ("it", "Se se ne occupa Marco. La proposta di Di Maio."),
            (
                "es",
                "A la una, una reunión. La línea para para mantenimiento. El Corte, en el El Corte Inglés.",
            ),
            (
                "de",
                "Die Preise von von uns gelieferten Geräten, ein ein Jahr alter Vertrag.",
            ),
            (
                "de",
                "Das weiß ich. Ich frage nach: ich weiß es. \u{201e}Das sind wir.\u{201c} Wir kommen.",
            ),
            ("fr", "Si si, dans le Le Monde."),
            (
                "en",
                "The ER has 10 mm and $5 MM ARR, 20- 200 users; it IT wants.",
            ),
        ] {
            assert_eq!(clean(text, Some(language)), text);
        }
    }

    /// Goal: any text can be cleaned, and never grows.
    #[test]
    fn any_text() {
        let pieces = [
            "[",
            "]",
            "inaudible",
            "um",
            "ä-",
            "ä",
            " ",
            "\u{1f600}",
            "(",
            "-",
            ".",
            "I",
            "\n",
        ];
        let mut state = 7_usize;
        for _ in 0..5_000 {
            let text: String = (0..state % 12)
                .map(|at| pieces[(state / 13_usize.pow(at as u32 % 8)) % pieces.len()])
                .collect();
            for (language, _) in LANGUAGES {
                let cleaned = clean(&text, Some(language));
                assert!(cleaned.len() <= text.len() + 1, "{text:?}");
                assert_eq!(clean(&cleaned, Some(language)), cleaned, "{text:?}");
            }
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
        }
    }
}
