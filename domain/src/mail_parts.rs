//! What in a mail is new, what it quotes, and where its signature begins.
//!
//! Rules of the formats first: `>` (RFC 3676, section 4.5), the separator `-- ` (section 4.3). Then what mail programs
//! write above a quotation, in the languages that they write it in.

use std::ops::Range;

use crate::segment::Part;

/// A mail with more lines is a file, and taken as a whole.
const LINES_MAX: usize = 100_000;

/// A signature is at most so many lines of so many characters.
const SIGNATURE_LINES_MAX: usize = 12;
const SIGNATURE_CHARS_MAX: usize = 72;

/// Ends of the line above a quotation: "On Monday, Ana wrote:".
const ATTRIBUTION_ENDS: [&str; 12] = [
    "wrote:",
    "wrote :",
    "writes:",
    "schrieb:",
    "a écrit :",
    "a écrit:",
    "escribió:",
    "escreveu:",
    "ha scritto:",
    "schreef:",
    "skrev:",
    "написал:",
];
/// Verbs of lines that end with the name: "Am Montag schrieb Ana:".
const ATTRIBUTION_VERBS: [&str; 4] = [" schrieb ", " schreef ", " skrev ", " wrote "];

/// How such a line may begin when its first line has neither date nor address.
const ATTRIBUTION_STARTS: [&str; 9] = [
    "on ", "am ", "le ", "el ", "il ", "op ", "den ", "em ", "at ",
];

/// Lines above a whole quoted message.
const ORIGINAL_MESSAGES: [&str; 8] = [
    "original message",
    "ursprüngliche nachricht",
    "originalnachricht",
    "message d'origine",
    "mensaje original",
    "messaggio originale",
    "oorspronkelijk bericht",
    "mensagem original",
];

/// First and later header lines of a quoted message, as mail programs of several languages name them.
const FROM_LABELS: [&str; 7] = ["from:", "von:", "de :", "de:", "da:", "van:", "от:"];
const DATE_LABELS: [&str; 13] = [
    "sent:",
    "date:",
    "gesendet:",
    "datum:",
    "envoyé :",
    "envoyé:",
    "enviado:",
    "inviato:",
    "data:",
    "verzonden:",
    "fecha:",
    "отправлено:",
    "дата:",
];
const TO_LABELS: [&str; 10] = [
    "to:",
    "an:",
    "à :",
    "à:",
    "para:",
    "a:",
    "aan:",
    "кому:",
    "subject:",
    "betreff:",
];

const CLOSINGS: [&str; 22] = [
    "regards",
    "best regards",
    "kind regards",
    "warm regards",
    "many thanks",
    "thanks",
    "thank you",
    "thanks again",
    "best",
    "best wishes",
    "sincerely",
    "yours sincerely",
    "cheers",
    "mit freundlichen grüßen",
    "viele grüße",
    "beste grüße",
    "cordialement",
    "bien à vous",
    "saludos",
    "un saludo",
    "cordiali saluti",
    "met vriendelijke groet",
];

const DEVICES: [&str; 8] = [
    "sent from my ",
    "sent from outlook",
    "sent from mail for",
    "get outlook for",
    "von meinem iphone gesendet",
    "envoyé de mon ",
    "enviado desde mi ",
    "inviato da ",
];

/// Who may have signed.
#[derive(Clone, Copy)]
pub(crate) struct Sender<'a> {
    pub(crate) name: Option<&'a str>,
    pub(crate) address: &'a str,
}

/// Byte ranges of `body`, without gaps, and what each is; a forwarded message is what the mail is about, and so no
/// quotation.
pub(crate) fn mail_parts(
    body: &str,
    sender: Option<Sender<'_>>,
    is_forward: bool,
) -> Vec<(Range<usize>, Part)> {
    if body.bytes().filter(|&byte| byte == b'\n').count() > LINES_MAX {
        return vec![(0..body.len(), Part::Body)];
    }
    let lines = lines(body);
    let mut parts: Vec<Part> = vec![Part::Body; lines.len()];
    let new_end = mark_quotations(&lines, is_forward, &mut parts);
    mark_signature(&lines[..new_end], sender, &mut parts);
    // Blank lines go with what is above them.
    for at in 1..lines.len() {
        if lines[at].text.is_empty() {
            parts[at] = parts[at - 1];
        }
    }
    let mut ranges: Vec<(Range<usize>, Part)> = Vec::new();
    for (line, part) in lines.iter().zip(parts) {
        match ranges.last_mut() {
            Some((range, last)) if *last == part => range.end = line.end,
            _ => ranges.push((line.start..line.end, part)),
        }
    }
    ranges
}

struct Line<'a> {
    start: usize,
    end: usize,
    text: &'a str,
}

fn lines(body: &str) -> Vec<Line<'_>> {
    let mut at = 0;
    body.split_inclusive('\n')
        .map(|line| {
            let start = at;
            at += line.len();
            Line {
                start,
                end: at,
                text: line.trim(),
            }
        })
        .collect()
}

/// Returns where what the sender wrote ends: before a forwarded message, if there is one.
fn mark_quotations(lines: &[Line], is_forward: bool, parts: &mut [Part]) -> usize {
    let mut at = 0;
    while at < lines.len() {
        if lines[at].text.starts_with('>') {
            if is_forward && begins_message(&unquoted(&lines[at..])) {
                return at;
            }
            parts[at] = Part::Quoted;
        } else if let Some(length) = attribution(&lines[at..]) {
            let after = at + length;
            parts[at..after].fill(Part::Quoted);
            let next = lines[after..].iter().find(|line| !line.text.is_empty());
            if next.is_some_and(|next| !next.text.starts_with('>')) {
                // The program that wrote it marks no lines: all that follows is quoted.
                parts[after..].fill(Part::Quoted);
                return lines.len();
            }
            at = after;
            continue;
        } else if is_forward_line(lines[at].text) || is_forward && begins_message(&lines[at..]) {
            return at;
        } else if !is_forward
            && (begins_message(&lines[at..])
                || begins_dated(&lines[..at], &lines[at..])
                || begins_stamped(&lines[at..]))
        {
            parts[at..].fill(Part::Quoted);
            return lines.len();
        }
        at += 1;
    }
    lines.len()
}

/// Lines of "On ..., ... wrote:" at the start of these; mail programs break it once or twice.
fn attribution(lines: &[Line]) -> Option<usize> {
    let first = lines.first()?.text;
    let has_place =
        |text: &str| text.contains('@') || text.chars().filter(char::is_ascii_digit).count() >= 3;
    let lower = first.to_lowercase();
    let begins = ATTRIBUTION_STARTS
        .iter()
        .any(|start| lower.starts_with(start));
    if !begins && !has_place(first) {
        return None;
    }
    let mut joined = String::new();
    for (index, line) in lines.iter().take(3).enumerate() {
        if line.text.is_empty() || line.text.starts_with('>') {
            break;
        }
        joined.push_str(line.text);
        joined.push(' ');
        let text = joined.trim_end().to_lowercase();
        let is_end = ATTRIBUTION_ENDS.iter().any(|end| text.ends_with(end))
            || text.ends_with(':') && ATTRIBUTION_VERBS.iter().any(|verb| text.contains(verb))
            // Yandex and mail.ru: hardly more than the time and the address.
            || text.ends_with(">:") && text.contains('@') && has_time(&text);
        // A date or an address: "She wrote:" is prose.
        if is_end && has_place(&text) && text.chars().count() < 250 {
            return Some(index + 1);
        }
    }
    None
}

/// Whether a quoted message begins here: its separator, or its headers.
fn begins_message(lines: &[Line]) -> bool {
    let Some(first) = lines.first() else {
        return false;
    };
    let text = first.text.to_lowercase();
    let bare = text.trim_matches(['-', '_', ' ', '*']);
    if text.starts_with("--") && ORIGINAL_MESSAGES.contains(&bare) {
        return true;
    }
    has_label(first, &FROM_LABELS)
        && follows(&lines[1..], &DATE_LABELS).is_some()
        && follows(&lines[1..], &TO_LABELS).is_some()
}

/// Hotmail begins the headers with the date; so do an itinerary, and what a form on a web page sends, but not from an
/// address below a text.
fn begins_dated(above: &[Line], lines: &[Line]) -> bool {
    let Some((first, rest)) = lines.split_first() else {
        return false;
    };
    has_label(first, &DATE_LABELS)
        && above.iter().any(|line| !line.text.is_empty())
        && follows(rest, &FROM_LABELS).is_some_and(|line| line.text.contains('@'))
        && follows(rest, &TO_LABELS).is_some()
}

fn has_label(line: &Line, labels: &[&str]) -> bool {
    let text = line.text.to_lowercase().replace('*', "");
    labels
        .iter()
        .any(|label| text.trim_start().starts_with(label))
}

fn follows<'a>(lines: &'a [Line<'a>], labels: &[&str]) -> Option<&'a Line<'a>> {
    lines.iter().take(6).find(|line| has_label(line, labels))
}

/// The next lines of a quotation without their marks.
fn unquoted<'a>(lines: &[Line<'a>]) -> Vec<Line<'a>> {
    let next = lines.iter().take(8);
    next.map(|line| Line {
        start: line.start,
        end: line.end,
        text: line.text.trim_start_matches(['>', ' ']),
    })
    .collect()
}

/// "14:05"
fn has_time(text: &str) -> bool {
    text.as_bytes().windows(4).any(|at| {
        at[0].is_ascii_digit() && at[1] == b':' && at[2].is_ascii_digit() && at[3].is_ascii_digit()
    })
}

/// "---------------------- Forwarded by Ana Lund on 04/19/2001 ----", "Begin forwarded message:"
fn is_forward_line(text: &str) -> bool {
    let lower = text.to_lowercase();
    text.starts_with("--") && lower.contains("forwarded")
        || lower.starts_with("begin forwarded message")
}

/// Lotus Notes: a name, the time in the same line or the next, and the addressees.
fn begins_stamped(lines: &[Line]) -> bool {
    let is_stamp = |text: &str| {
        text.len() < 80
            && text.contains('/')
            && text.contains(':')
            && text.chars().filter(char::is_ascii_digit).count() >= 8
    };
    let Some(stamp) = lines.iter().take(2).position(|line| is_stamp(line.text)) else {
        return false;
    };
    !lines[0].text.is_empty()
        && lines[stamp + 1..]
            .iter()
            .take(3)
            .any(|line| line.text.starts_with("To:"))
}

fn mark_signature(lines: &[Line], sender: Option<Sender<'_>>, parts: &mut [Part]) {
    let filled: Vec<usize> = (0..lines.len())
        .filter(|&at| parts[at] == Part::Body && !lines[at].text.is_empty())
        .collect();
    let Some(start) = signature_start(lines, &filled, sender) else {
        return;
    };
    // Up to the quotation below it, if there is one.
    for part in &mut parts[start..lines.len()] {
        if *part == Part::Body {
            *part = Part::Signature;
        }
    }
}

/// The signature's first line. `filled`: lines of what is new that have something in them.
fn signature_start(lines: &[Line], filled: &[usize], sender: Option<Sender<'_>>) -> Option<usize> {
    // Something has to be left that it signs.
    let (_, candidates) = filled.split_first()?;
    let last = |count| &candidates[candidates.len().saturating_sub(count)..];
    // A rule across the page looks the same, but more than a signature follows it.
    let mut separators = last(SIGNATURE_LINES_MAX + 1).iter().rev();
    if let Some(separator) = separators.find(|&&at| lines[at].text == "--") {
        return Some(*separator);
    }
    let is_long = |at: &usize| lines[*at].text.chars().count() > SIGNATURE_CHARS_MAX;
    let short = last(SIGNATURE_LINES_MAX);
    let short = &short[short.iter().rposition(is_long).map_or(0, |at| at + 1)..];
    let signed = short.iter().position(|&at| {
        let line = lines[at].text.to_lowercase();
        let is_closing = CLOSINGS.contains(&line.trim_end_matches([',', '!', '.', ' ']));
        let is_device = DEVICES.iter().any(|device| line.starts_with(device));
        is_closing || is_device || sender.is_some_and(|sender| sender.is_named_by(&line))
    });
    let Some(signed) = signed else {
        return sender.and_then(|sender| contact_block(lines, filled, short.len(), sender));
    };
    // A rule, and perhaps the name of a picture, above the name.
    let mut above = short[..signed]
        .iter()
        .rev()
        .copied()
        .skip_while(|&at| is_picture(lines[at].text));
    let rule = above.next().filter(|&at| is_rule(lines[at].text));
    Some(rule.unwrap_or(short[signed]))
}

fn is_rule(line: &str) -> bool {
    line.len() >= 2 && line.bytes().all(|byte| b"-_=*".contains(&byte))
}

/// What stands for a logo in a text without pictures: a word, with an ending or without spaces.
fn is_picture(line: &str) -> bool {
    let is_file = [".png", ".jpg", ".jpeg", ".gif"]
        .iter()
        .any(|ending| line.to_lowercase().ends_with(ending));
    is_file || line.contains('_') && !line.contains(' ') && !is_rule(line)
}

/// Where the last paragraph begins, if the sender's address is in it; it has at most `lines_max` lines.
fn contact_block(
    lines: &[Line],
    filled: &[usize],
    lines_max: usize,
    sender: Sender<'_>,
) -> Option<usize> {
    let start = 1 + filled.windows(2).rposition(|pair| pair[1] > pair[0] + 1)?;
    let block = filled
        .get(start..)
        .filter(|block| block.len() <= lines_max)?;
    let address = sender.address.to_lowercase();
    // With a label at most; in a sentence it is what the mail says.
    let is_address = |at: &usize| {
        let line = lines[*at].text.to_lowercase();
        line.contains(&address) && line.split_whitespace().count() <= 3
    };
    let is_sentence = |at: &usize| {
        let line = lines[*at].text;
        let words = line.split_whitespace().count();
        line.ends_with(['?', '!', ':']) || words > 4 && line.ends_with('.') || words > 8
    };
    let is_block =
        block.len() > 1 && block.iter().any(is_address) && !block.iter().any(is_sentence);
    is_block.then(|| block[0])
}

impl Sender<'_> {
    fn is_named(self) -> bool {
        self.name.is_some_and(|name| !name.contains('@'))
    }

    /// Whether a line, in lower case, is the name or the first of it.
    fn is_named_by(self, line: &str) -> bool {
        // What stands before the `@` tells a person only where it has parts: not `sales`, but `ana.lund`.
        let local = self.address.split('@').next();
        let name = self
            .name
            .filter(|name| !name.contains('@'))
            .or(local.filter(|local| local.contains(['.', '_'])));
        let name = name.unwrap_or_default().to_lowercase();
        let words: Vec<&str> = name
            .split([' ', ',', '.', '_'])
            .filter(|word| word.chars().count() > 1)
            .collect();
        let line: Vec<&str> = line
            .split([' ', ',', '.'])
            .filter(|word| !word.is_empty())
            .collect();
        // "Lund, Ana" signs as "Ana Lund", and with a title where both are there.
        let known = line.iter().filter(|word| words.contains(word)).count();
        let others = line
            .iter()
            .filter(|word| !words.contains(word) && word.chars().count() > 1)
            .count();
        // An address may be a department's: all of it, then.
        let wanted = if self.is_named() {
            1
        } else {
            words.len().max(1)
        };
        line.len() <= 4 && known >= wanted && others <= usize::from(known > 1)
    }
}

#[cfg(test)]
#[path = "mail_parts_tests.rs"]
mod tests;
