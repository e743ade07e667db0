//! The values of a GGUF header. Texts and lists stay in the file's buffer; a value says where.

use std::ops::Range;

use super::cursor::{Cursor, Source};

/// Lists in lists; no known file goes deeper than two.
const NESTING_MAX: usize = 4;

/// What an entry of the header says.
pub(super) enum Value {
    /// An integer of any width.
    Integer(i128),
    Number(f64),
    Flag(bool),
    /// Where the bytes are, which may be no UTF-8.
    Text(Range<usize>),
    List(List),
}

/// Values of one kind, checked to lie in the file.
pub(super) struct List {
    kind: Kind,
    count: usize,
    start: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Flag,
    Text,
    List,
    U64,
    I64,
    F64,
}

impl Value {
    /// Reads the kind of a value and the value.
    pub(super) fn read(cursor: &mut Cursor<impl Source>) -> Result<Self, String> {
        let kind = Kind::read(cursor)?;
        read_of_kind(kind, cursor, 0)
    }
}

impl List {
    /// The texts in order; None when it holds other things.
    pub(super) fn texts<'a>(&self, bytes: &'a [u8]) -> Option<Vec<&'a str>> {
        let mut cursor = Cursor::at(bytes, self.start);
        let text = |_| str::from_utf8(&bytes[cursor.text().ok()?]).ok();
        // An empty list may be of any kind.
        let is_readable = self.kind == Kind::Text || self.count == 0;
        is_readable.then(|| (0..self.count).map(text).collect())?
    }

    /// The integers in order; None when it holds other things or one above i64.
    pub(super) fn integers(&self, bytes: &[u8]) -> Option<Vec<i64>> {
        let mut cursor = Cursor::at(bytes, self.start);
        let integer = |_| match read_of_kind(self.kind, &mut cursor, 0) {
            Ok(Value::Integer(integer)) => i64::try_from(integer).ok(),
            _ => None,
        };
        (0..self.count).map(integer).collect()
    }

    /// The numbers in order; None when it holds other things or one that is not finite.
    pub(super) fn numbers(&self, bytes: &[u8]) -> Option<Vec<f32>> {
        let mut cursor = Cursor::at(bytes, self.start);
        let number = |_| match read_of_kind(self.kind, &mut cursor, 0) {
            Ok(Value::Number(number)) => Some(number as f32).filter(|number| number.is_finite()),
            _ => None,
        };
        (0..self.count).map(number).collect()
    }
}

impl Kind {
    fn read(cursor: &mut Cursor<impl Source>) -> Result<Self, String> {
        Ok(match cursor.u32()? {
            0 => Self::U8,
            1 => Self::I8,
            2 => Self::U16,
            3 => Self::I16,
            4 => Self::U32,
            5 => Self::I32,
            6 => Self::F32,
            7 => Self::Flag,
            8 => Self::Text,
            9 => Self::List,
            10 => Self::U64,
            11 => Self::I64,
            12 => Self::F64,
            other => return Err(format!("an entry has a value of the unknown kind {other}")),
        })
    }

    /// Bytes that a value takes at least, and exactly when it is no text and no list.
    fn bytes_min(self) -> usize {
        match self {
            Self::U8 | Self::I8 | Self::Flag => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 | Self::Text => 8,
            Self::List => 12,
        }
    }
}

fn read_of_kind(
    kind: Kind,
    cursor: &mut Cursor<impl Source>,
    depth: usize,
) -> Result<Value, String> {
    Ok(match kind {
        Kind::U8 => Value::Integer(u8::from_le_bytes(cursor.array()?).into()),
        Kind::I8 => Value::Integer(i8::from_le_bytes(cursor.array()?).into()),
        Kind::U16 => Value::Integer(u16::from_le_bytes(cursor.array()?).into()),
        Kind::I16 => Value::Integer(i16::from_le_bytes(cursor.array()?).into()),
        Kind::U32 => Value::Integer(u32::from_le_bytes(cursor.array()?).into()),
        Kind::I32 => Value::Integer(i32::from_le_bytes(cursor.array()?).into()),
        Kind::U64 => Value::Integer(u64::from_le_bytes(cursor.array()?).into()),
        Kind::I64 => Value::Integer(i64::from_le_bytes(cursor.array()?).into()),
        Kind::F32 => Value::Number(f32::from_le_bytes(cursor.array()?).into()),
        Kind::F64 => Value::Number(f64::from_le_bytes(cursor.array()?)),
        Kind::Flag => match cursor.array()? {
            [0] => Value::Flag(false),
            [1] => Value::Flag(true),
            [other] => return Err(format!("a flag is {other}")),
        },
        Kind::Text => Value::Text(cursor.text()?),
        Kind::List => Value::List(read_list(cursor, depth)?),
    })
}

/// Goes over a list, so that its end is known to lie in the file.
fn read_list(cursor: &mut Cursor<impl Source>, depth: usize) -> Result<List, String> {
    if depth == NESTING_MAX {
        return Err(format!("lists are nested deeper than {NESTING_MAX}"));
    }
    let kind = Kind::read(cursor)?;
    let count = cursor.count("entries of a list", kind.bytes_min())?;
    let list = List {
        kind,
        count,
        start: cursor.position(),
    };
    match kind {
        Kind::Text | Kind::List | Kind::Flag => {
            for _ in 0..count {
                read_of_kind(kind, cursor, depth + 1)?;
            }
        }
        // The product fits, because the entries fit into the file.
        _ => {
            cursor.skip(count * kind.bytes_min())?;
        }
    }
    Ok(list)
}
