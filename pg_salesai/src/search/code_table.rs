//! A table of codes, read page by page as it lies: through SPI each row would be copied.

use std::cell::RefCell;

use pgrx::{check_for_interrupts, pg_sys};

use crate::error::Error;

/// The only column is `codes`.
const COLUMNS: usize = 1;
/// Pages between two looks whether the query was cancelled.
const BLOCKS_PER_CHECK: u32 = 256;
/// In one scan of so many a page counts as used.
const SCANS_PER_USE: u32 = 8;

/// Shows the codes of each row that the active snapshot sees, and where those of the next row are likely to be, if that is
/// known: that page is not held, and only to be asked for ahead. Rights are not asked for: codes say nothing of a chunk
/// that its id is not asked for as the caller.
pub fn for_each_row(
    table: &str,
    mut show: impl FnMut(&[u8], Option<*const u8>) -> Result<(), Error>,
) -> Result<(), Error> {
    let Some(mut scan) = Scan::begin(table) else {
        return Err(Error::EmbeddingCodes);
    };
    for block in 0..scan.blocks {
        if block.is_multiple_of(BLOCKS_PER_CHECK) {
            check_for_interrupts!();
        }
        let page = scan.page(block);
        let next = scan.known_page(block + 1);
        for offset in page.visible_rows(&scan) {
            let Some(codes) = page.codes(offset, &scan) else {
                return Err(Error::EmbeddingCodes);
            };
            let place = codes.as_ptr().addr() - page.address().addr();
            show(codes, next.map(|next| next.wrapping_add(place)))?;
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

/// Where the pages of a table were the last time: a look into the table of all buffers takes as long as a page.
#[derive(Default)]
struct Known {
    file: pg_sys::RelFileLocator,
    buffers: Vec<pg_sys::Buffer>,
    scans: u32,
}

thread_local! {
    static KNOWN: RefCell<Known> = RefCell::default();
}

/// A scan that is under way. An error of PostgreSQL's ends the transaction, which closes what a scan holds.
struct Scan {
    relation: pg_sys::Relation,
    snapshot: pg_sys::Snapshot,
    has_snapshot: bool,
    blocks: pg_sys::BlockNumber,
    known: Known,
}

impl Scan {
    /// None where there is no such table in our schema, or another than we made. What was read before through SPI is
    /// not newer than what it sees.
    fn begin(table: &str) -> Option<Self> {
        let name = std::ffi::CString::new(table).ok()?;
        // SAFETY: the table is locked before it is looked at; it was made as a heap. There is nothing to tell serializable
        // transactions: whoever adds a vector writes to tables that search reads through SPI.
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
            let blocks =
                pg_sys::RelationGetNumberOfBlocksInFork(relation, pg_sys::ForkNumber::MAIN_FORKNUM);
            let file = (*relation).rd_locator;
            let mut known = KNOWN.take();
            if !is_same(file, known.file) {
                known = Known {
                    file,
                    ..Known::default()
                };
            }
            known.scans = known.scans.wrapping_add(1);
            known.buffers.resize(blocks as usize, 0);
            Some(Self {
                relation,
                snapshot: pg_sys::GetActiveSnapshot(),
                has_snapshot,
                blocks,
                known,
            })
        }
    }

    fn page(&mut self, block: pg_sys::BlockNumber) -> Page {
        let known = self.known.buffers[block as usize];
        // A page that is found where it was does not count as used: sometimes it has to.
        let is_sought = block
            .wrapping_add(self.known.scans)
            .is_multiple_of(SCANS_PER_USE);
        let fork = pg_sys::ForkNumber::MAIN_FORKNUM;
        // SAFETY: the block is one of the table's, and the buffer one that PostgreSQL has.
        #[allow(unsafe_code)]
        unsafe {
            if known > 0
                && !is_sought
                && pg_sys::ReadRecentBuffer(self.known.file, fork, block, known)
            {
                return Page {
                    buffer: known,
                    block,
                };
            }
            let mode = pg_sys::ReadBufferMode::RBM_NORMAL;
            let buffer =
                pg_sys::ReadBufferExtended(self.relation, fork, block, mode, std::ptr::null_mut());
            self.known.buffers[block as usize] = buffer;
            Page { buffer, block }
        }
    }

    /// Where a page was the last time.
    fn known_page(&self, block: pg_sys::BlockNumber) -> Option<*const u8> {
        let known = self.known.buffers.get(block as usize);
        // SAFETY: an address is computed, and nothing read.
        #[allow(unsafe_code)]
        known
            .filter(|buffer| **buffer > 0)
            .map(|&buffer| unsafe { pg_sys::BufferGetPage(buffer).cast_const().cast() })
    }
}

fn is_same(one: pg_sys::RelFileLocator, other: pg_sys::RelFileLocator) -> bool {
    (one.spcOid, one.dbOid, one.relNumber) == (other.spcOid, other.dbOid, other.relNumber)
}

impl Drop for Scan {
    fn drop(&mut self) {
        KNOWN.set(std::mem::take(&mut self.known));
        // SAFETY: opened by `begin`, and closed once. The lock stays until the transaction ends, as a query's does.
        #[allow(unsafe_code)]
        unsafe {
            // While a panic of PostgreSQL's unwinds, its own clean-up closes both.
            if !std::thread::panicking() {
                if self.has_snapshot {
                    pg_sys::PopActiveSnapshot();
                }
                pg_sys::table_close(self.relation, pg_sys::NoLock as pg_sys::LOCKMODE);
            }
        }
    }
}

/// A page that is held.
struct Page {
    buffer: pg_sys::Buffer,
    block: pg_sys::BlockNumber,
}

impl Page {
    fn address(&self) -> *const u8 {
        // SAFETY: the page is held.
        #[allow(unsafe_code)]
        unsafe {
            pg_sys::BufferGetPage(self.buffer).cast()
        }
    }

    /// The rows that the scan's snapshot sees. They stay where they are as long as the page is held.
    fn visible_rows(&self, scan: &Scan) -> Vec<pg_sys::OffsetNumber> {
        let mut rows = Vec::new();
        // SAFETY: the page is held, and locked while it is looked through.
        #[allow(unsafe_code)]
        unsafe {
            pg_sys::LockBuffer(self.buffer, pg_sys::BUFFER_LOCK_SHARE as i32);
            let page = pg_sys::BufferGetPage(self.buffer);
            #[cfg(feature = "pg16")]
            pg_sys::TestForOldSnapshot(scan.snapshot, scan.relation, page);
            // On a standby a page may say so too early.
            let sees_all = pg_sys::PageIsAllVisible(page) && !(*scan.snapshot).takenDuringRecovery;
            for offset in 1..=pg_sys::PageGetMaxOffsetNumber(page) {
                if let Some(mut tuple) = self.tuple(offset, scan)
                    && (sees_all
                        || pg_sys::HeapTupleSatisfiesVisibility(
                            &mut tuple,
                            scan.snapshot,
                            self.buffer,
                        ))
                {
                    rows.push(offset);
                }
            }
            pg_sys::LockBuffer(self.buffer, pg_sys::BUFFER_LOCK_UNLOCK as i32);
        }
        rows
    }

    /// None where the place is free.
    fn tuple(&self, offset: pg_sys::OffsetNumber, scan: &Scan) -> Option<pg_sys::HeapTupleData> {
        // SAFETY: the page is held and has so many places.
        #[allow(unsafe_code)]
        unsafe {
            let page = pg_sys::BufferGetPage(self.buffer);
            let item = pg_sys::PageGetItemId(page, offset);
            let mut place = pg_sys::ItemPointerData::default();
            pgrx::itemptr::item_pointer_set_all(&mut place, self.block, offset);
            ((*item).lp_flags() == pg_sys::LP_NORMAL).then(|| pg_sys::HeapTupleData {
                t_len: (*item).lp_len(),
                t_self: place,
                t_tableOid: (*scan.relation).rd_id,
                t_data: pg_sys::PageGetItem(page, item).cast(),
            })
        }
    }

    /// None where a row has none.
    fn codes(&self, offset: pg_sys::OffsetNumber, scan: &Scan) -> Option<&[u8]> {
        let mut tuple = self.tuple(offset, scan)?;
        // SAFETY: the row is one of the table's. The column is stored plainly, so it is a value in the page.
        #[allow(unsafe_code)]
        unsafe {
            let (mut values, mut nulls) = ([pg_sys::Datum::null(); COLUMNS], [true; COLUMNS]);
            let descriptor = (*scan.relation).rd_att;
            pg_sys::heap_deform_tuple(
                &mut tuple,
                descriptor,
                values.as_mut_ptr(),
                nulls.as_mut_ptr(),
            );
            (!nulls[0]).then(|| pgrx::varlena_to_byte_slice(values[0].cast_mut_ptr()))
        }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: held since `Scan::page`. While a panic of PostgreSQL's unwinds, its own clean-up lets go of it.
        #[allow(unsafe_code)]
        unsafe {
            if !std::thread::panicking() {
                pg_sys::ReleaseBuffer(self.buffer);
            }
        }
    }
}
