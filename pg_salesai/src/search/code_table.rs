//! A table of codes, read page by page as it lies: through SPI each row would be copied.

use pgrx::{check_for_interrupts, pg_sys};

use crate::error::Error;

/// The only column is `codes`.
const COLUMNS: usize = 1;
/// Rows between two looks whether the query was cancelled.
const ROWS_PER_CHECK: usize = 256;

/// Shows the codes of each row that the active snapshot sees. Rights are not asked for: codes say nothing of a chunk
/// that its id is not asked for as the caller.
pub fn for_each_row(
    table: &str,
    mut show: impl FnMut(&[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let Some(scan) = Scan::begin(table) else {
        return Err(Error::EmbeddingCodes);
    };
    let mut rows = 0;
    while let Some(codes) = scan.next() {
        show(codes)?;
        rows += 1;
        if rows % ROWS_PER_CHECK == 0 {
            check_for_interrupts!();
        }
    }
    Ok(())
}

/// Whether SPI reads each statement in a snapshot of its own: pgrx has it so once the transaction has written something.
pub fn reads_anew() -> bool {
    // SAFETY: only looks.
    #[allow(unsafe_code)]
    unsafe {
        pg_sys::GetCurrentTransactionIdIfAny() != pg_sys::InvalidTransactionId
    }
}

/// A scan that is under way. An error of PostgreSQL's ends the transaction, which closes what a scan holds.
struct Scan {
    relation: pg_sys::Relation,
    scan: pg_sys::TableScanDesc,
    has_snapshot: bool,
}

impl Scan {
    /// None where there is no such table in our schema, or another than we made. What was read before through SPI is
    /// not newer than what it sees.
    fn begin(table: &str) -> Option<Self> {
        let name = std::ffi::CString::new(table).ok()?;
        // SAFETY: the table is locked before it is looked at; it was made as a heap. A bulk-read ring is not asked for,
        // so that the pages stay in shared buffers for the next search.
        #[allow(unsafe_code)]
        unsafe {
            let schema = pg_sys::get_namespace_oid(c"salesai".as_ptr(), false);
            let oid = pg_sys::get_relname_relid(name.as_ptr(), schema);
            if oid == pg_sys::InvalidOid {
                return None;
            }
            let relation = pg_sys::table_open(oid, pg_sys::AccessShareLock as pg_sys::LOCKMODE);
            if (*(*relation).rd_att).natts != COLUMNS as i32 {
                pg_sys::table_close(relation, pg_sys::NoLock as pg_sys::LOCKMODE);
                return None;
            }
            let has_snapshot = reads_anew();
            if has_snapshot {
                pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
            }
            let scan = pg_sys::heap_beginscan(
                relation,
                pg_sys::GetActiveSnapshot(),
                0,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
                pg_sys::ScanOptions::SO_TYPE_SEQSCAN | pg_sys::ScanOptions::SO_ALLOW_PAGEMODE,
            );
            Some(Self {
                relation,
                scan,
                has_snapshot,
            })
        }
    }

    /// The codes of the next row; they lie in a page that is held until the row after it is asked for.
    fn next(&self) -> Option<&[u8]> {
        // SAFETY: the scan is open. The column is never null and stored plainly, so it is a value in the page.
        #[allow(unsafe_code)]
        unsafe {
            let row = pg_sys::heap_getnext(self.scan, pg_sys::ScanDirection::ForwardScanDirection);
            if row.is_null() {
                return None;
            }
            let (mut values, mut nulls) = ([pg_sys::Datum::null(); COLUMNS], [true; COLUMNS]);
            let descriptor = (*self.relation).rd_att;
            pg_sys::heap_deform_tuple(row, descriptor, values.as_mut_ptr(), nulls.as_mut_ptr());
            if nulls[0] {
                return Some(&[]);
            }
            Some(pgrx::varlena_to_byte_slice(values[0].cast_mut_ptr()))
        }
    }
}

impl Drop for Scan {
    fn drop(&mut self) {
        // SAFETY: opened by `begin`, and closed once. The lock stays until the transaction ends, as a query's does.
        #[allow(unsafe_code)]
        unsafe {
            // While a panic of PostgreSQL's unwinds, its own clean-up closes both.
            if !std::thread::panicking() {
                pg_sys::heap_endscan(self.scan);
                if self.has_snapshot {
                    pg_sys::PopActiveSnapshot();
                }
                pg_sys::table_close(self.relation, pg_sys::NoLock as pg_sys::LOCKMODE);
            }
        }
    }
}
