//! Goal: a GGUF file reads back as it was written, and no damaged one is accepted by mistake, makes
//! the reader panic, or makes it allocate by a number of the header.

use std::fs::File;
use std::path::Path;

use inference_sidecar::gguf::GgufFile;
use inference_sidecar::models::Format;
use tempfile::TempDir;

use super::gguf_builder::{GgufBuilder, list, pack, sample, text};
use super::{damage, whole_reading};

fn read(builder: &GgufBuilder) -> GgufFile {
    GgufFile::parse(builder.build(), Path::new("test.gguf")).unwrap()
}

fn check_refused(bytes: Vec<u8>, expected: &str) {
    let error = GgufFile::parse(bytes, Path::new("test.gguf")).err();
    let message = error.map_or("accepted".into(), |error| error.to_string());
    assert!(message.contains(expected), "{message:?}, not {expected:?}");
    assert!(message.contains("test.gguf"), "{message:?}");
}

#[test]
fn entries_read_back() {
    let mut builder = sample();
    for version in [2, 3] {
        builder.version = version;
        // The order of entries does not matter.
        builder.entries.reverse();
        let file = read(&builder);
        assert_eq!(file.text("general.architecture").unwrap(), "llama");
        for (key, expected) in [("u8", 200), ("u16", 60_000), ("u32", 4_000_000_000)] {
            assert_eq!(file.count(key).unwrap(), expected);
        }
        assert_eq!(file.count("u64").unwrap(), usize::MAX);
        assert_eq!(file.number("f32").unwrap(), 0.5);
        assert_eq!(file.number("f64").unwrap(), 0.25);
        assert!(file.flag("flag").unwrap());
        assert_eq!(file.texts("texts").unwrap(), ["", "a", "Grüße"]);
        assert_eq!(file.codes("codes").unwrap(), [1, -1, 3]);
        assert!(file.has("lists") && !file.has("list"));
        assert_eq!(file.keys().count(), builder.entries.len());
    }
}

#[test]
fn entries_of_another_kind_are_refused() {
    let builder = sample()
        .entry("odd text", 8, &[1, 0, 0, 0, 0, 0, 0, 0, 0xff])
        .entry(
            "odd texts",
            9,
            &list(8, &[vec![1, 0, 0, 0, 0, 0, 0, 0, 0xff]]),
        )
        .entry(
            "large codes",
            9,
            &list(10, &[u64::MAX.to_le_bytes().into()]),
        )
        .number("infinite", f32::INFINITY)
        .entry("too large", 12, &1e300f64.to_le_bytes());
    let file = read(&builder);
    for key in ["i8", "i16", "i32", "i64", "f32", "flag", "texts"] {
        let message = file.count(key).unwrap_err().to_string();
        assert!(message.contains(&format!("\"{key}\" is not a count")));
    }
    for key in ["infinite", "too large", "u32", "flag"] {
        assert!(file.number(key).is_err());
    }
    for key in ["odd text", "u8", "texts"] {
        assert!(file.text(key).is_err());
    }
    for key in ["odd texts", "codes", "lists", "general.architecture"] {
        assert!(file.texts(key).is_err());
    }
    for key in ["large codes", "texts", "lists", "flags", "u32"] {
        assert!(file.codes(key).is_err());
    }
    assert!(file.flag("u8").is_err());
    let message = file.count("absent").unwrap_err().to_string();
    assert!(message.contains("\"absent\" is missing"));
    let message = file.count_in("u8", 1..=199).unwrap_err().to_string();
    assert!(message.contains("\"u8\" is 200, expected 1 to 199"));
}

#[test]
fn tensors_read_back() {
    for alignment in [1, 8, 32, 4096] {
        let builder = GgufBuilder {
            alignment,
            ..sample()
        };
        let file = read(&builder);
        for format in Format::ALL {
            let (name, columns) = (format!("{format:?}"), format.block_weights());
            let entry = builder.tensors.iter().find(|t| t.name == name).unwrap();
            let matrix = file.matrix(&name, 2, columns).unwrap();
            assert_eq!(
                (matrix.format, matrix.rows, matrix.columns),
                (format, 2, columns)
            );
            assert_eq!(matrix.bytes(), entry.bytes);
            assert!(file.has_tensor(&name));
        }
        assert_eq!(file.vector("vector", 3).unwrap(), [1.0, -2.0, 3.0]);
        assert_eq!(file.tensors().count(), Format::ALL.len() + 1);
        let weights: usize = Format::ALL.iter().map(|f| 2 * f.block_weights()).sum();
        assert_eq!(file.weight_count(), weights as u64 + 3);
    }
}

#[test]
fn tensors_of_another_shape_are_refused() {
    let file = read(&sample());
    for (rows, columns) in [(1, 64), (32, 2), (2, 31), (0, 0), (usize::MAX, usize::MAX)] {
        let message = file
            .matrix("Q4_0", rows, columns)
            .err()
            .unwrap()
            .to_string();
        assert!(message.contains("tensor \"Q4_0\" has shape"), "{message}");
    }
    assert!(file.vector("vector", 2).is_err());
    assert!(file.vector("F32", 2).is_err());
    let message = file.matrix("absent", 1, 1).err().unwrap().to_string();
    assert!(message.contains("tensor \"absent\" is missing"));
}

#[test]
fn damaged_headers_are_refused() {
    let bytes = sample().build();
    let with = |position: usize, piece: &[u8]| {
        let mut bytes = bytes.clone();
        bytes[position..position + piece.len()].copy_from_slice(piece);
        bytes
    };
    check_refused(with(0, b"GGML"), "does not start with \"GGUF\"");
    check_refused(with(4, &1u32.to_le_bytes()), "version 1 is not supported");
    check_refused(with(4, &3u32.to_be_bytes()), "big-endian");
    check_refused(with(8, &u64::MAX.to_le_bytes()), "tensors do not fit");
    check_refused(with(16, &(1u64 << 40).to_le_bytes()), "entries do not fit");
    check_refused(
        with(24, &(1u64 << 63).to_le_bytes()),
        "bytes of a text do not fit",
    );

    let check = |builder: GgufBuilder, expected: &str| check_refused(builder.build(), expected);
    check(sample().count("u8", 1), "\"u8\" is there twice");
    check(
        sample().vector("vector", &[1.0]),
        "tensor \"vector\" is there twice",
    );
    check(sample().entry("a", 13, &[0]), "unknown kind 13");
    check(sample().entry("a", 7, &[2]), "a flag is 2");
    check(sample().entry("a", 9, &list(7, &[vec![2]])), "a flag is 2");
    let endless = [&10u32.to_le_bytes()[..], &(1u64 << 61).to_le_bytes()].concat();
    check(
        sample().entry("a", 9, &endless),
        "entries of a list do not fit",
    );
    let nested = (0..4).fold(list(0, &[vec![1]]), |inner, _| list(9, &[inner]));
    check(sample().entry("a", 9, &nested), "nested deeper than 4");
    check(
        sample().count(&"k".repeat(70_000), 1),
        "a name has 70000 bytes",
    );
    for alignment in [0, 24, u32::MAX] {
        let builder = GgufBuilder::default().count("general.alignment", alignment);
        check(
            builder,
            &format!("\"general.alignment\" is {alignment}, no power of two"),
        );
    }
    let builder = GgufBuilder::default().text("general.alignment", "32");
    check(builder, "\"general.alignment\" is not a count");
    let mut bytes = GgufBuilder::default().count("key", 1).build();
    bytes[32] = 0xff;
    check_refused(bytes, "a name is not UTF-8");
}

#[test]
fn damaged_tensors_are_refused() {
    let check = |change: &dyn Fn(&mut GgufBuilder), expected: &str| {
        let mut builder = sample();
        change(&mut builder);
        check_refused(builder.build(), expected);
    };
    let q4_0 = Format::ALL.iter().position(|f| *f == Format::Q4_0).unwrap();
    for number in [4, 5, 9, 16, 24, 28, 31, u32::MAX] {
        let expected = format!("tensor \"Q4_0\" has the ggml type {number}, which is not");
        check(&|b| b.tensors[q4_0].ggml_type = number, &expected);
    }
    for columns in [0, 31, 33] {
        let expected = format!("has rows of {columns} weights, no whole number of Q4_0 blocks");
        check(
            &|b| b.tensors[q4_0].dimensions = vec![columns, 2],
            &expected,
        );
    }
    for dimensions in [vec![], vec![32; 5]] {
        let expected = format!("has {} dimensions", dimensions.len());
        check(
            &|b| b.tensors[q4_0].dimensions = dimensions.clone(),
            &expected,
        );
    }
    for dimensions in [
        vec![32, 0],
        vec![32, 1 << 63],
        vec![1 << 40, 1 << 40, 1 << 40],
    ] {
        check(
            &|b| b.tensors[q4_0].dimensions = dimensions.clone(),
            "has the impossible shape",
        );
    }
    check(&|b| b.tensors[q4_0].offset = Some(8), "no multiple of 32");
    check(
        &|b| b.tensors[q4_0].offset = Some(1 << 40),
        "is truncated: tensor \"Q4_0\"",
    );
    check(
        &|b| b.tensors[q4_0].offset = Some(u64::MAX - 31),
        "impossible shape",
    );
    check(
        &|b| b.tensors[q4_0].offset = Some(u64::MAX - 63),
        "outside of the file",
    );
    // Its bytes may be those of another tensor.
    let mut builder = sample();
    builder.tensors[q4_0].offset = Some(0);
    assert!(read(&builder).matrix("Q4_0", 2, 32).is_ok());
}

#[test]
fn truncated_files_are_refused() {
    let bytes = sample().build();
    damage::truncations(&bytes, |bytes| {
        assert!(whole_reading::gguf(bytes).is_err());
    });
    let missing = bytes[..bytes.len() - 5].to_vec();
    check_refused(
        missing,
        "tensor \"vector\" ends 5 bytes after the end of the file",
    );
    // Without tensors nothing needs to follow the header.
    assert!(whole_reading::gguf(GgufBuilder::default().build()).is_ok());
}

#[test]
fn changed_headers_never_panic() {
    let small = GgufBuilder {
        alignment: 8,
        ..GgufBuilder::default()
    };
    let small = small
        .texts("texts", &["a", "bc"])
        .codes("codes", &[1, 2])
        .flag("flag", true)
        .entry(
            "lists",
            9,
            &list(9, &[list(0, &[vec![1]]), list(8, &[text("b")])]),
        )
        .matrix("matrix", Format::Q8_0, 32, &[0.5; 64])
        .vector("vector", &[1.0]);
    let (bytes, header) = (small.build(), small.header().len());
    // A key or name may become another one, so some changes are fine.
    let (mut accepted, mut refused) = (0, 0);
    let mut read = |bytes| match whole_reading::gguf(bytes) {
        Ok(()) => accepted += 1,
        Err(_) => refused += 1,
    };
    damage::changed_bytes(&bytes, header, &mut read);
    damage::changed_numbers(&bytes, header, &mut read);
    damage::random_changes(&sample().build(), 20_000, &mut read);
    assert!(accepted > 100 && refused > 10_000, "{accepted} {refused}");
}

#[test]
fn headers_do_not_allocate() {
    let name = "cases::gguf_files::headers_do_not_allocate";
    let (bytes, header) = (sample().build(), sample().header().len());
    damage::check_memory(name, 32 << 20, || {
        damage::changed_numbers(&bytes, header, |bytes| drop(whole_reading::gguf(bytes)));
        // The most entries that a file of this size can hold.
        let mut many = GgufBuilder::default();
        for index in 0..20_000 {
            many = many.entry(&format!("{index}"), 0, &[1]);
        }
        whole_reading::gguf(many.build()).unwrap();
    });
}

#[test]
fn what_is_no_file_is_refused() {
    let folder = TempDir::new().unwrap();
    let check = |path: &Path, expected: &str| {
        let message = GgufFile::open(path).err().unwrap().to_string();
        assert!(message.contains(expected), "{message}");
    };
    let empty = folder.path().join("empty.gguf");
    std::fs::write(&empty, "").unwrap();
    check(&empty, "the file is empty");
    check(folder.path(), "not a regular file");
    check(Path::new("/dev/zero"), "not a regular file");
    check(&folder.path().join("absent.gguf"), "could not read");
    let good = folder.path().join("good.gguf");
    std::fs::write(&good, sample().build()).unwrap();
    let file = GgufFile::open(&good).unwrap();
    assert_eq!(file.texts("texts").unwrap(), ["", "a", "Grüße"]);
}

/// A file that is larger than the part that comes into memory with its header.
#[test]
fn tensors_are_read_from_disk() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("large.gguf");
    let values: Vec<f32> = (0..1 << 19).map(|value| value as f32).collect();
    let builder = GgufBuilder::default()
        .matrix("first", Format::F32, 1 << 9, &values)
        .matrix("last", Format::F32, 1 << 9, &values);
    std::fs::write(&path, builder.build()).unwrap();
    let file = GgufFile::open(&path).unwrap();
    let mut rows = Vec::new();
    for name in ["first", "last"] {
        let matrix = file.matrix(name, 1 << 10, 1 << 9).unwrap();
        assert_eq!(matrix.to_f32(), values);
        let unread = file.unread_matrix(name, 1 << 10, 1 << 9).unwrap();
        for range in [0..1, 0..1 << 10, 1000..1024] {
            unread.read_rows(range.clone(), &mut rows).unwrap();
            assert_eq!(rows, matrix.bytes()[range.start << 11..range.end << 11]);
        }
    }
    File::options()
        .write(true)
        .open(&path)
        .and_then(|file| file.set_len(3 << 20))
        .unwrap();
    let unread = file.unread_matrix("last", 1 << 10, 1 << 9).unwrap();
    for result in [
        unread.read().map(drop),
        unread.read_rows(1023..1024, &mut rows),
    ] {
        let message = result.unwrap_err().to_string();
        assert!(message.contains("shrank while it was read"), "{message}");
    }
}

#[test]
fn packing_is_exact_for_what_a_format_can_express() {
    let values = [0.5, -0.25, 0.0, 1.0];
    assert_eq!(pack(Format::F16, &values).len(), 8);
    let file = read(&GgufBuilder::default().matrix("m", Format::Bf16, 2, &values));
    assert_eq!(file.matrix("m", 2, 2).unwrap().to_f32(), values);
}
