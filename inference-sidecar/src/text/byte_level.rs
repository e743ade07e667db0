//! GPT-2's spelling of bytes as printable characters, in which byte-level vocabularies are written.

/// The byte that `c` stands for in a byte-level vocabulary.
pub(super) fn byte_of(c: char) -> Option<u8> {
    match c {
        // Printable characters of Latin-1 stand for themselves ...
        '!'..='~' | '¡'..='¬' | '®'..='ÿ' => u8::try_from(u32::from(c)).ok(),
        // ... the other 68 bytes, in order, are moved behind Latin-1.
        '\u{100}'..='\u{143}' => {
            let rank = u32::from(c) - 0x100;
            let byte = match rank {
                0..=32 => rank,
                33..=66 => rank - 33 + 0x7f,
                _ => 0xad,
            };
            u8::try_from(byte).ok()
        }
        _ => None,
    }
}

/// The bytes of a vocabulary entry; characters outside the alphabet stand for themselves.
pub(super) fn bytes_of(entry: &str) -> Box<[u8]> {
    let mut bytes = Vec::with_capacity(entry.len());
    for c in entry.chars() {
        match byte_of(c) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes.into()
}

#[cfg(test)]
mod tests {
    //! Goal: the alphabet is a one-to-one spelling of all 256 bytes, the one of the tokenizers crate.

    use tokenizers::pre_tokenizers::byte_level::ByteLevel;

    use super::*;

    #[test]
    fn every_byte_has_one_character() {
        let mut bytes: Vec<u8> = ByteLevel::alphabet()
            .into_iter()
            .filter_map(byte_of)
            .collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=255).collect::<Vec<u8>>());
        assert_eq!(&*bytes_of("Ġhi"), b" hi");
        assert_eq!(&*bytes_of("Ċ"), b"\n");
        assert_eq!(&*bytes_of("Ãī"), "É".as_bytes());
    }
}
