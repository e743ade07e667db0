//! Bytes as text, in whatever encoding they are.

use std::borrow::Cow;

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};

/// The text in the encoding of its byte order mark, in UTF-8 where it is valid, else in the encoding with this label
/// (WHATWG Encoding, 4.2) or the likeliest one. None: the bytes are no text.
pub fn decode_text(content: &[u8], label: Option<&str>) -> Option<String> {
    let encoding = match Encoding::for_bom(content) {
        Some((encoding, _)) => encoding,
        None if std::str::from_utf8(content).is_ok() => UTF_8,
        // What is in UTF-16 could not have said so in bytes.
        None => label
            .and_then(|label| Encoding::for_label(label.as_bytes()))
            .filter(|encoding| encoding.is_ascii_compatible())
            .unwrap_or_else(|| guess(content)),
    };
    let (text, _, _) = encoding.decode(content);
    (!text.contains('\0')).then(|| text.into_owned())
}

/// A text that was UTF-8 and was decoded as Latin 1 or Windows-1252, because it said so, as it was meant: "Ã©" as "é".
pub(crate) fn rightly_decoded(text: &str) -> Cow<'_, str> {
    if text.is_ascii() || !text.contains(['\u{c2}', '\u{c3}', '\u{e2}']) {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    for character in text.chars() {
        match u8::try_from(u32::from(character)) {
            Ok(byte) => bytes.push(byte),
            Err(_) => match WINDOWS_1252.encode(character.encode_utf8(&mut [0; 4])) {
                (encoded, _, false) => bytes.extend_from_slice(&encoded),
                _ => return Cow::Borrowed(text),
            },
        }
    }
    String::from_utf8(bytes).map_or(Cow::Borrowed(text), Cow::Owned)
}

/// Bytes of UTF-16, with or without a byte order mark, that begin with ASCII, as text.
pub(crate) fn decode_utf16(content: &[u8]) -> Option<String> {
    let encoding = match content {
        [0xff, 0xfe, ..] | [0x20..0x7f, 0, 0x20..0x7f, 0, ..] => UTF_16LE,
        [0xfe, 0xff, ..] | [0, 0x20..0x7f, 0, 0x20..0x7f, ..] => UTF_16BE,
        _ => return None,
    };
    Some(encoding.decode(content).0.into_owned())
}

fn guess(content: &[u8]) -> &'static Encoding {
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
    detector.feed(content, true);
    detector.guess(None, Utf8Detection::Allow)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: files of Windows, old and new, are read without being asked what they are in; binary ones are not.
    #[test]
    fn encodings_are_recognised() {
        let said =
            "Jürgen: Das Angebot läuft bis März, 4.000 € für die Müller AG – größer geht's nicht.";
        let utf16: Vec<u8> = "\u{feff}"
            .encode_utf16()
            .chain(said.encode_utf16())
            .flat_map(u16::to_le_bytes)
            .collect();
        let (windows, _, _) = encoding_rs::WINDOWS_1252.encode(said);
        for bytes in [
            said.as_bytes(),
            &utf16,
            &windows,
            format!("\u{feff}{said}").as_bytes(),
        ] {
            assert_eq!(decode_text(bytes, None).as_deref(), Some(said));
        }
        let japanese = "田中：見積書を来週までにお送りします。よろしくお願いいたします。";
        let (shift_jis, _, _) = encoding_rs::SHIFT_JIS.encode(japanese);
        assert_eq!(decode_text(&shift_jis, None).as_deref(), Some(japanese));
        assert_eq!(
            decode_text(b"\x93hello\x94", Some("windows-1252")).as_deref(),
            Some("\u{201c}hello\u{201d}")
        );
        assert_eq!(decode_text(b"\x7fELF\0\0\0\x01", None), None);
        assert_eq!(
            rightly_decoded("dâ\u{80}\u{99}accord, trÃ¨s bien Ã\u{a0} 3 â‚¬"),
            "d’accord, très bien à 3 €"
        );
        for right in ["déjà à 3 €", "Â, â, Ã: letters", "plain", "Âge d'or"] {
            assert_eq!(rightly_decoded(right), right);
        }
        assert_eq!(decode_text(b"", None).as_deref(), Some(""));
    }
}
