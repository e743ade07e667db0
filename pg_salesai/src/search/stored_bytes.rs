//! Values as PostgreSQL stores them: a `bytea` that is not fetched as a whole, and a `tsvector`.

use pgrx::{FromDatum, IntoDatum, pg_sys};

/// A value as it stands in its row: short ones themselves, long ones as a pointer to where they are stored.
pub struct StoredBytes {
    /// Whole words, because PostgreSQL reads values at their alignment.
    words: Vec<u64>,
}

impl StoredBytes {
    /// These bytes of it, in the snapshot that is active.
    pub fn slice(&self, start: usize, length: usize) -> Vec<u8> {
        let (start, length) = (
            i32::try_from(start).unwrap_or(i32::MAX),
            i32::try_from(length).unwrap_or(i32::MAX),
        );
        // SAFETY: a copy of a whole value; the detoasted part is ours, and is copied before it is freed.
        #[allow(unsafe_code)]
        unsafe {
            let stored = self.words.as_ptr().cast_mut().cast::<pg_sys::varlena>();
            let part = pg_sys::pg_detoast_datum_slice(stored, start, length);
            let bytes = pgrx::varlena_to_byte_slice(part).to_vec();
            pg_sys::pfree(part.cast());
            bytes
        }
    }
}

impl FromDatum for StoredBytes {
    #[allow(unsafe_code)]
    unsafe fn from_polymorphic_datum(
        datum: pg_sys::Datum,
        is_null: bool,
        _: pg_sys::Oid,
    ) -> Option<Self> {
        if is_null {
            return None;
        }
        // SAFETY: the datum of a bytea points to that many bytes.
        unsafe {
            let value = datum.cast_mut_ptr::<pg_sys::varlena>();
            let size = pgrx::varsize_any(value);
            let mut words = vec![0_u64; size.div_ceil(size_of::<u64>())];
            std::ptr::copy_nonoverlapping(value.cast::<u8>(), words.as_mut_ptr().cast(), size);
            Some(Self { words })
        }
    }
}

/// Only says that it is a `bytea`: SPI asks for it.
impl IntoDatum for StoredBytes {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        None
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::BYTEAOID
    }
}

/// A `tsvector` as it is stored, without the header of all long values: its text form, and what clients get, would go
/// through the client's encoding.
pub struct StoredVector(pub Vec<u8>);

impl FromDatum for StoredVector {
    #[allow(unsafe_code)]
    unsafe fn from_polymorphic_datum(
        datum: pg_sys::Datum,
        is_null: bool,
        _: pg_sys::Oid,
    ) -> Option<Self> {
        if is_null {
            return None;
        }
        // SAFETY: the datum of a tsvector points to one; what was detoasted lives until the memory context goes.
        unsafe {
            let vector = pg_sys::pg_detoast_datum(datum.cast_mut_ptr());
            Some(Self(pgrx::varlena_to_byte_slice(vector).to_vec()))
        }
    }
}

/// Only says that it is a `tsvector`: SPI asks for it.
impl IntoDatum for StoredVector {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        None
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::TSVECTOROID
    }
}
