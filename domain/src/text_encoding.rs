//! Bytes as text, in whatever encoding they are.

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, UTF_8};

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
        assert_eq!(decode_text(b"", None).as_deref(), Some(""));
    }
}
