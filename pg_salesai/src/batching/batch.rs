//! Rows of a batch, and what was said of them.

use std::ffi::CString;
use std::ptr::{self, addr_of};
use std::time::Instant;

use pgrx::{PgList, pg_sys};

use super::call::{Call, Value, byte_count, copied_text};
use super::pace;
use crate::config;

/// A batching node's rows.
pub struct Batch {
    /// Columns of the node below.
    columns: usize,
    calls: Vec<Call>,
    /// In turn for all rows.
    stages: Vec<Stage>,
    /// The one that the rows are in.
    stage: usize,
    /// Values of expressions that it has so far.
    given: Vec<Value>,
    /// Rows and values of calls; emptied before the next ones.
    memory: pg_sys::MemoryContext,
    /// Reads a row that was kept.
    kept: *mut pg_sys::TupleTableSlot,
    rows: Vec<Row>,
    /// Rows that there were before any was dropped, about what they and their documents take, and when the last was taken.
    taken: usize,
    bytes: usize,
    begin: Instant,
    /// The row that is shown next.
    next: usize,
    /// Rows to take.
    size: usize,
    /// Whether there are no more below.
    is_at_end: bool,
    /// Batches that were asked about.
    count: i64,
}

/// What is done with all rows before the next.
enum Stage {
    /// The call of this number.
    Call(usize),
    /// Rows that do not pass are dropped.
    Condition(*mut pg_sys::ExprState),
}

/// An expression that the executor is to evaluate, and where what it makes is to live; both are NULL after the last.
#[repr(C)]
pub struct Pending {
    pub expression: *mut pg_sys::ExprState,
    pub memory: pg_sys::MemoryContext,
}

/// A row of the node below, and the values of the calls that were made for it.
struct Row {
    tuple: pg_sys::MinimalTuple,
    values: Vec<Value>,
}

#[allow(unsafe_code)]
impl Batch {
    /// # Safety
    /// The node is being started, with this plan, and the one below it was.
    pub unsafe fn new(node: *mut pg_sys::CustomScanState, plan: *mut pg_sys::CustomScan) -> Self {
        // SAFETY: by the caller; the lists are those of `rewriting`.
        unsafe {
            let parent: *mut pg_sys::PlanState = node.cast();
            let numbers: Vec<usize> = PgList::<i32>::from_pg((*plan).custom_private)
                .iter_int()
                .map(|number| usize::try_from(number).unwrap_or(0))
                .collect();
            let (&columns, known) = numbers.split_first().unwrap_or((&0, &[]));
            let described = PgList::<pg_sys::TargetEntry>::from_pg((*plan).custom_scan_tlist);
            let calls = described.iter_ptr().skip(columns);
            let calls: Vec<Call> = calls
                .map(|call| Call::new((*call).expr.cast(), parent))
                .collect();
            let conditions = PgList::<pg_sys::Expr>::from_pg((*plan).scan.plan.qual);
            let conditions = conditions
                .iter_ptr()
                .map(|condition| condition_state(condition, parent))
                .zip(known.iter().copied());
            let state = (*node).ss.ps.state;
            Self {
                columns,
                stages: stages(conditions, calls.len()),
                calls,
                stage: 0,
                given: Vec::new(),
                memory: memory_below((*state).es_query_cxt),
                kept: pg_sys::ExecInitExtraTupleSlot(
                    state,
                    pg_sys::ExecGetResultType((*node).ss.ps.lefttree),
                    addr_of!(pg_sys::TTSOpsMinimalTuple),
                ),
                rows: Vec::new(),
                taken: 0,
                bytes: 0,
                begin: Instant::now(),
                next: 0,
                size: 1,
                is_at_end: false,
                count: 0,
            }
        }
    }

    pub fn is_at_end(&self) -> bool {
        self.is_at_end
    }

    pub fn has_room(&self) -> bool {
        let is_full = self.taken >= self.size || self.bytes >= pace::BYTES_MAX;
        !self.is_at_end && (self.taken == 0 || !is_full)
    }

    /// Batches that were asked about.
    pub fn count(&self) -> i64 {
        self.count
    }

    /// Names of the functions that are called.
    pub fn functions(&self) -> impl Iterator<Item = &CString> {
        self.calls.iter().map(Call::name)
    }

    /// Begins with the first row, which the node below gives anew. Where not all rows were wanted, few are taken again.
    pub fn forget(&mut self) {
        if !self.is_at_end || self.next < self.rows.len() {
            self.size = 1;
        }
        self.clear();
        self.is_at_end = false;
    }

    /// Makes room for the next rows.
    pub fn start(&mut self, is_for_one: bool) {
        self.clear();
        if is_for_one {
            self.size = 1;
        }
    }

    fn clear(&mut self) {
        self.rows.clear();
        self.given.clear();
        (self.next, self.stage) = (0, 0);
        (self.taken, self.bytes) = (0, 0);
        // SAFETY: the row that was shown last is no longer read, as of every node.
        unsafe {
            pg_sys::ExecClearTuple(self.kept);
            pg_sys::MemoryContextReset(self.memory);
        }
    }

    /// Keeps a row of the node below; an empty one is its end.
    ///
    /// # Safety
    /// The slot is NULL or one that the node below gave.
    pub unsafe fn take(&mut self, row: *mut pg_sys::TupleTableSlot) {
        // SAFETY: by the caller.
        unsafe {
            if row.is_null() || (*row).tts_flags & pg_sys::TTS_FLAG_EMPTY as u16 != 0 {
                self.is_at_end = true;
                return;
            }
            let outer = pg_sys::MemoryContextSwitchTo(self.memory);
            let tuple = pg_sys::ExecCopySlotMinimalTuple(row);
            pg_sys::MemoryContextSwitchTo(outer);
            self.bytes += (*tuple).t_len as usize;
            self.rows.push(Row {
                tuple,
                values: Vec::new(),
            });
        }
        self.taken += 1;
        self.begin = Instant::now();
    }

    /// What is to be evaluated next, with its row where expressions read it.
    ///
    /// # Safety
    /// The node is that of the batch.
    pub unsafe fn pending(&mut self, node: *mut pg_sys::CustomScanState) -> Pending {
        while !self.rows.is_empty() && self.stage < self.stages.len() {
            let done = self.given.len();
            let (row, expression) = match self.stages[self.stage] {
                Stage::Call(at) => self.calls[at].expression(done),
                Stage::Condition(condition) => (done, condition),
            };
            // SAFETY: by the caller.
            unsafe {
                if row < self.rows.len() {
                    self.load(row, node);
                    let memory = (*(*node).ss.ps.ps_ExprContext).ecxt_per_tuple_memory;
                    pg_sys::MemoryContextReset(memory);
                    let memory = match self.stages[self.stage] {
                        Stage::Call(_) => self.memory,
                        Stage::Condition(_) => memory,
                    };
                    return Pending { expression, memory };
                }
                self.finish_stage(node);
            }
        }
        if self.taken > 0 {
            self.count += 1;
            let (elapsed, limit) = (self.begin.elapsed(), config::timeout());
            self.size = pace::next_rows(self.taken, self.bytes, elapsed, limit);
        }
        Pending {
            expression: ptr::null_mut(),
            memory: ptr::null_mut(),
        }
    }

    /// The value of what was pending.
    ///
    /// # Safety
    /// It lives.
    pub unsafe fn give(&mut self, (mut value, is_null): Value) {
        if let Stage::Call(at) = self.stages[self.stage]
            && self.calls[at].is_document(self.given.len())
            && !is_null
        {
            // A subquery frees what it gave before.
            // SAFETY: by the caller, a text; the memory lives as long as the query.
            unsafe {
                let outer = pg_sys::MemoryContextSwitchTo(self.memory);
                value = copied_text(value);
                pg_sys::MemoryContextSwitchTo(outer);
                self.bytes += byte_count((value, is_null));
            }
        }
        self.given.push((value, is_null));
    }

    unsafe fn finish_stage(&mut self, node: *mut pg_sys::CustomScanState) {
        let given = std::mem::take(&mut self.given);
        match self.stages[self.stage] {
            // SAFETY: by the caller; the memory lives as long as the query.
            Stage::Call(at) => unsafe {
                let values = self.calls[at].values(&given, self.rows.len(), self.memory);
                for (row, value) in self.rows.iter_mut().zip(values) {
                    row.values.push(value);
                }
            },
            Stage::Condition(_) => {
                let before = self.rows.len();
                let mut passes = given
                    .iter()
                    .map(|&(value, is_null)| !is_null && value.value() != 0);
                self.rows.retain(|_| passes.next().unwrap_or(false));
                // SAFETY: by the caller.
                if let Some(instrument) = unsafe { (*node).ss.ps.instrument.as_mut() } {
                    instrument.nfiltered1 += (before - self.rows.len()) as f64;
                }
            }
        }
        self.stage += 1;
    }

    /// Puts the next row where expressions read it; false after the last.
    ///
    /// # Safety
    /// The node is that of the batch.
    pub unsafe fn next(&mut self, node: *mut pg_sys::CustomScanState) -> bool {
        let has_next = self.next < self.rows.len();
        if has_next {
            // SAFETY: by the caller.
            unsafe {
                pg_sys::MemoryContextReset((*(*node).ss.ps.ps_ExprContext).ecxt_per_tuple_memory);
                self.load(self.next, node);
            }
            self.next += 1;
        }
        has_next
    }

    /// Puts a row, with the values that it has, where the node's expressions read it.
    unsafe fn load(&self, row: usize, node: *mut pg_sys::CustomScanState) {
        let row = &self.rows[row];
        // SAFETY: by the caller; the slot has the columns of the node below, then the calls.
        unsafe {
            let slot = (*node).ss.ss_ScanTupleSlot;
            pg_sys::ExecClearTuple(slot);
            pg_sys::ExecStoreMinimalTuple(row.tuple, self.kept, false);
            pg_sys::slot_getallattrs(self.kept);
            ptr::copy_nonoverlapping((*self.kept).tts_values, (*slot).tts_values, self.columns);
            ptr::copy_nonoverlapping((*self.kept).tts_isnull, (*slot).tts_isnull, self.columns);
            for at in 0..self.calls.len() {
                // What was not called yet is not read either.
                let (value, is_null) = row.values.get(at).copied().unwrap_or((0.into(), true));
                *(*slot).tts_values.add(self.columns + at) = value;
                *(*slot).tts_isnull.add(self.columns + at) = is_null;
            }
            pg_sys::ExecStoreVirtualTuple(slot);
            (*(*node).ss.ps.ps_ExprContext).ecxt_scantuple = slot;
        }
    }
}

/// Each condition once the calls that it reads were made, at last the calls that only the select list reads.
fn stages(
    conditions: impl Iterator<Item = (*mut pg_sys::ExprState, usize)>,
    calls: usize,
) -> Vec<Stage> {
    let mut made = 0;
    let mut stages = Vec::new();
    for (condition, calls) in conditions {
        stages.extend((made..calls).map(Stage::Call));
        stages.push(Stage::Condition(condition));
        made = calls;
    }
    stages.extend((made..calls).map(Stage::Call));
    stages
}

/// A condition alone.
#[allow(unsafe_code)]
unsafe fn condition_state(
    condition: *mut pg_sys::Expr,
    parent: *mut pg_sys::PlanState,
) -> *mut pg_sys::ExprState {
    // SAFETY: by the caller, of a plan whose node is being started.
    unsafe {
        let mut alone = PgList::new();
        alone.push(condition);
        pg_sys::ExecInitQual(alone.into_pg(), parent)
    }
}

/// Memory that ends with another.
///
/// # Safety
/// That one lives.
#[allow(unsafe_code)]
pub unsafe fn memory_below(memory: pg_sys::MemoryContext) -> pg_sys::MemoryContext {
    // SAFETY: by the caller; the name is a constant.
    unsafe {
        pg_sys::AllocSetContextCreateInternal(
            memory,
            c"salesai batch".as_ptr(),
            pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
        )
    }
}
