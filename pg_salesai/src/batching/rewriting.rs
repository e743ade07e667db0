//! What moves from a node to the one above it: conditions from the first one with a call that may be made for many rows,
//! and the select list. What stays below makes columns that the moved parts read.
//!
//! The node above has a row of its own (`INDEX_VAR`): the columns of the node below, then a column for the value of each
//! call, which the moved conditions and the select list read in the place of the call.

use std::ffi::{c_int, c_void};
use std::mem::size_of;
use std::ptr;

use pgrx::{PgList, pg_sys, prelude::*};

use super::{calls, node};

/// Lets a plan's node do all but the calls, and returns the node above it that makes them; None where there are none.
///
/// # Safety
/// The node is one of a finished plan that computes its select list itself.
#[allow(unsafe_code)]
pub unsafe fn batched(below: *mut pg_sys::Plan) -> Option<*mut pg_sys::Plan> {
    // SAFETY: by the caller.
    unsafe {
        let qual = nodes((*below).qual);
        let targets = nodes((*below).targetlist);
        let mut found = Vec::new();
        let stays = qual.iter().take_while(|&&condition| {
            calls::collect(condition, &mut found);
            found.is_empty()
        });
        let stays = stays.count();
        let (stays, moves) = qual.split_at(stays);
        targets
            .iter()
            .for_each(|&target| calls::collect(target, &mut found));
        // A subquery that gives several columns is run by one of them for the others.
        if found.is_empty() || sets_several_columns((*below).targetlist.cast(), ptr::null_mut()) {
            return None;
        }
        let moved = list(moves.iter().chain(&targets).copied());
        let mut row = Row {
            of: pg_sys::INDEX_VAR,
            columns: columns_of(moved.cast()),
            calls: Vec::new(),
        };
        let mut conditions = PgList::<pg_sys::Node>::new();
        let mut private = pg_sys::lappend_int(ptr::null_mut(), number(row.columns.len()));
        for &condition in moves {
            calls::collect(condition, &mut row.calls);
            private = pg_sys::lappend_int(private, number(row.calls.len()));
            conditions.push(replaced(condition, (&raw mut row).cast()));
        }
        targets
            .iter()
            .for_each(|&target| calls::collect(target, &mut row.calls));
        let targets = replaced((*below).targetlist.cast(), (&raw mut row).cast());
        let above = above(below, below, &row, private);
        (*above).scan.plan.targetlist = targets.cast();
        (*above).scan.plan.qual = conditions.into_pg();
        // EXPLAIN looks for what makes a parameter above who reads it.
        (*above).scan.plan.initPlan = std::mem::replace(&mut (*below).initPlan, ptr::null_mut());
        (*below).targetlist = row.produced();
        (*below).qual = list(stays.iter().copied());
        Some(above.cast())
    }
}

/// A batching node with this row, above a node, which reads the parameters that `asker` reads.
///
/// # Safety
/// Both are nodes of a finished plan, and the row one of theirs.
#[allow(unsafe_code)]
pub(super) unsafe fn above(
    below: *mut pg_sys::Plan,
    asker: *mut pg_sys::Plan,
    row: &Row,
    private: *mut pg_sys::List,
) -> *mut pg_sys::CustomScan {
    // SAFETY: by the caller; zero is a valid value of all fields.
    unsafe {
        let above: *mut pg_sys::CustomScan =
            pg_sys::palloc0(size_of::<pg_sys::CustomScan>()).cast();
        (*above).scan.plan = pg_sys::Plan {
            type_: pg_sys::NodeTag::T_CustomScan,
            parallel_aware: false,
            parallel_safe: false,
            async_capable: false,
            targetlist: ptr::null_mut(),
            qual: ptr::null_mut(),
            lefttree: below,
            righttree: ptr::null_mut(),
            initPlan: ptr::null_mut(),
            extParam: pg_sys::bms_copy((*asker).extParam),
            allParam: pg_sys::bms_copy((*asker).allParam),
            ..*below
        };
        (*above).custom_scan_tlist = row.described();
        (*above).custom_private = private;
        (*above).methods = node::scan_methods();
        // Only a child of an Append is asked for rows asynchronously.
        (*below).async_capable = false;
        above
    }
}

/// The row of a batching node.
pub(super) struct Row {
    /// How who reads it calls it: `INDEX_VAR` the node itself, `OUTER_VAR` the node above.
    pub of: c_int,
    /// What is read of the node below, as the calls' expressions call it.
    pub columns: Vec<*mut pg_sys::Node>,
    /// As written in the query.
    pub calls: Vec<*mut pg_sys::FuncExpr>,
}

#[allow(unsafe_code)]
impl Row {
    /// The select list of the node below.
    unsafe fn produced(&self) -> *mut pg_sys::List {
        // SAFETY: expressions of a plan; the list has copies.
        unsafe {
            let mut targets = PgList::new();
            for (column, number) in self.columns.iter().zip(1..) {
                let column = pg_sys::copyObjectImpl((*column).cast()).cast();
                targets.push(target(column, number));
            }
            targets.into_pg()
        }
    }

    /// Its columns as EXPLAIN shows them and the executor types them: those of the node below, then the calls, which
    /// read this row.
    unsafe fn described(&self) -> *mut pg_sys::List {
        // SAFETY: as above. Arguments of a call read calls before it alone.
        unsafe {
            let mut targets = PgList::new();
            for (column, number) in self.columns.iter().zip(1..) {
                let column = variable(pg_sys::OUTER_VAR, number, *column);
                targets.push(target(column.cast(), number));
            }
            for (at, &call) in self.calls.iter().enumerate() {
                let mut before = Self {
                    of: pg_sys::INDEX_VAR,
                    columns: self.columns.clone(),
                    calls: self.calls[..at].to_vec(),
                };
                let call = pg_sys::expression_tree_mutator_impl(
                    call.cast(),
                    Some(replaced),
                    (&raw mut before).cast(),
                );
                let number = self.number_of_call(at);
                targets.push(target(call.cast(), number));
            }
            targets.into_pg()
        }
    }

    pub fn number_of_call(&self, at: usize) -> i16 {
        number::<i16>(self.columns.len() + at + 1)
    }
}

/// A copy of an expression that reads the row of the node above.
#[allow(unsafe_code)]
#[pg_guard]
pub(super) unsafe extern "C-unwind" fn replaced(
    node: *mut pg_sys::Node,
    row: *mut c_void,
) -> *mut pg_sys::Node {
    // SAFETY: `row` is one, for the time of the call; nodes are those of a plan.
    unsafe {
        let Some(tag) = node.as_ref().map(|node| node.type_) else {
            return ptr::null_mut();
        };
        let row_ref = &*row.cast::<Row>();
        let is_same = |other: *mut c_void| pg_sys::equal(other, node.cast());
        let number = match tag {
            // Those that are read of the node below.
            pg_sys::NodeTag::T_Var
            | pg_sys::NodeTag::T_Aggref
            | pg_sys::NodeTag::T_WindowFunc
            | pg_sys::NodeTag::T_GroupingFunc => {
                let mut columns = row_ref.columns.iter();
                let Some(at) = columns.position(|&column| is_column(column, node)) else {
                    error!("a column is not in the row of a batching node");
                };
                Some(number::<i16>(at + 1))
            }
            pg_sys::NodeTag::T_FuncExpr => {
                let at = row_ref.calls.iter().position(|&call| is_same(call.cast()));
                at.map(|at| row_ref.number_of_call(at))
            }
            _ => None,
        };
        match number {
            Some(number) => variable(row_ref.of, number, node).cast(),
            None => pg_sys::expression_tree_mutator_impl(node, Some(replaced), row),
        }
    }
}

/// Whether both are read from the same place.
#[allow(unsafe_code)]
unsafe fn is_column(column: *mut pg_sys::Node, node: *mut pg_sys::Node) -> bool {
    // SAFETY: by the caller; a node is of the type that its tag says.
    unsafe {
        let place = |node: *mut pg_sys::Node| {
            let variable: *mut pg_sys::Var = node.cast();
            ((*variable).varno, (*variable).varattno)
        };
        let is_variable = |node: *mut pg_sys::Node| (*node).type_ == pg_sys::NodeTag::T_Var;
        match is_variable(column) && is_variable(node) {
            true => place(column) == place(node),
            false => pg_sys::equal(column.cast(), node.cast()),
        }
    }
}

/// A column of a row, of the type that an expression has.
///
/// # Safety
/// It is an expression of a plan.
#[allow(unsafe_code)]
pub(super) unsafe fn variable(of: c_int, number: i16, like: *mut pg_sys::Node) -> *mut pg_sys::Var {
    // SAFETY: by the caller, an expression.
    unsafe {
        pg_sys::makeVar(
            of,
            number,
            pg_sys::exprType(like),
            pg_sys::exprTypmod(like),
            pg_sys::exprCollation(like),
            0,
        )
    }
}

/// A column of a select list that is nobody's by name.
///
/// # Safety
/// It is an expression of a plan.
#[allow(unsafe_code)]
pub(super) unsafe fn target(column: *mut pg_sys::Expr, number: i16) -> *mut pg_sys::TargetEntry {
    // SAFETY: by the caller.
    unsafe { pg_sys::makeTargetEntry(column, number, ptr::null_mut(), false) }
}

/// Whether there is a subquery as in `set (a, b) = (select ...)`.
#[allow(unsafe_code)]
#[pg_guard]
unsafe extern "C-unwind" fn sets_several_columns(
    node: *mut pg_sys::Node,
    context: *mut c_void,
) -> bool {
    // SAFETY: by the caller, expressions of a plan.
    unsafe {
        let Some(tag) = node.as_ref().map(|node| node.type_) else {
            return false;
        };
        let subplan: *mut pg_sys::SubPlan = node.cast();
        (tag == pg_sys::NodeTag::T_SubPlan
            && (*subplan).subLinkType == pg_sys::SubLinkType::MULTIEXPR_SUBLINK)
            || pg_sys::expression_tree_walker_impl(node, Some(sets_several_columns), context)
    }
}

/// The members of a list.
///
/// # Safety
/// It is a list of nodes.
#[allow(unsafe_code)]
pub(super) unsafe fn nodes(list: *mut pg_sys::List) -> Vec<*mut pg_sys::Node> {
    // SAFETY: by the caller, a list of nodes.
    unsafe { PgList::from_pg(list).iter_ptr().collect() }
}

/// What an expression reads of rows: columns, and where its node makes them, aggregates and window functions.
///
/// # Safety
/// The expression is one of a plan.
#[allow(unsafe_code)]
pub unsafe fn columns_of(expression: *mut pg_sys::Node) -> Vec<*mut pg_sys::Node> {
    let kinds = pg_sys::PVC_INCLUDE_AGGREGATES | pg_sys::PVC_INCLUDE_WINDOWFUNCS;
    let mut seen: Vec<*mut pg_sys::Node> = Vec::new();
    // SAFETY: by the caller.
    unsafe {
        for column in nodes(pg_sys::pull_var_clause(expression, kinds as c_int)) {
            let is_seen = |&known: &*mut pg_sys::Node| pg_sys::equal(known.cast(), column.cast());
            if !seen.iter().any(is_seen) {
                seen.push(column);
            }
        }
    }
    seen
}

fn list(nodes: impl Iterator<Item = *mut pg_sys::Node>) -> *mut pg_sys::List {
    let mut list = PgList::new();
    nodes.for_each(|node| list.push(node));
    list.into_pg()
}

/// A plan has at most some thousand columns.
pub(super) fn number<N: TryFrom<usize>>(count: usize) -> N {
    match N::try_from(count) {
        Ok(number) => number,
        Err(_) => error!("a row has too many columns"),
    }
}
