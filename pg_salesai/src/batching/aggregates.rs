//! Calls in the arguments of aggregates, such as `count(*) filter (where salesai.is_true(...))`: a batching node below the
//! aggregating one makes them, as columns behind those of its rows.

use std::ffi::c_void;
use std::ptr;

use pgrx::{PgList, pg_sys, prelude::*};

use super::calls;
use super::rewriting::{Row, above, columns_of, nodes, number, replaced, target, variable};

/// Puts a batching node below an aggregating one where its aggregates call an operator for each row.
///
/// # Safety
/// The node is an aggregating one of a finished plan.
#[allow(unsafe_code)]
pub unsafe fn batch_arguments(aggregating: *mut pg_sys::Plan) {
    // SAFETY: by the caller.
    unsafe {
        let below = (*aggregating).lefttree;
        let mut found = Vec::new();
        for list in [(*aggregating).targetlist, (*aggregating).qual] {
            for aggregate in columns_of(list.cast()) {
                if (*aggregate).type_ == pg_sys::NodeTag::T_Aggref {
                    collect(aggregate.cast(), &mut found);
                }
            }
        }
        if found.is_empty() || below.is_null() {
            return;
        }
        let below_targets = PgList::<pg_sys::TargetEntry>::from_pg((*below).targetlist);
        let columns = below_targets.iter_ptr().zip(1..).map(|(target, number)| {
            variable(pg_sys::OUTER_VAR, number, (*target).expr.cast()).cast()
        });
        let mut row = Row {
            of: pg_sys::OUTER_VAR,
            columns: columns.collect(),
            calls: found,
        };
        let private = pg_sys::lappend_int(ptr::null_mut(), number(row.columns.len()));
        let batching = above(below, aggregating, &row, private);
        (*batching).scan.plan.targetlist = passed_on(&row);
        (*aggregating).lefttree = batching.cast();
        let row = (&raw mut row).cast();
        (*aggregating).targetlist = in_aggregates((*aggregating).targetlist.cast(), row).cast();
        (*aggregating).qual = in_aggregates((*aggregating).qual.cast(), row).cast();
    }
}

/// What an aggregate evaluates for every row: its filter, or without one its arguments.
#[allow(unsafe_code)]
unsafe fn collect(aggregate: *mut pg_sys::Aggref, found: &mut Vec<*mut pg_sys::FuncExpr>) {
    // SAFETY: by the caller, an aggregate of a plan.
    unsafe {
        if (*aggregate).aggfilter.is_null() {
            for argument in nodes((*aggregate).args) {
                calls::collect(argument, found);
            }
        } else {
            calls::collect((*aggregate).aggfilter.cast(), found);
        }
    }
}

/// The whole row, as the select list of the batching node.
#[allow(unsafe_code)]
unsafe fn passed_on(row: &Row) -> *mut pg_sys::List {
    // SAFETY: by the caller, expressions of a plan.
    unsafe {
        let calls = row.calls.iter().map(|call| call.cast());
        let mut targets = PgList::new();
        for (column, number) in row.columns.iter().copied().chain(calls).zip(1..) {
            let column = variable(pg_sys::INDEX_VAR, number, column);
            targets.push(target(column.cast(), number));
        }
        targets.into_pg()
    }
}

/// A copy of an expression whose aggregates read the row; what stands beside them is made of groups.
#[allow(unsafe_code)]
#[pg_guard]
unsafe extern "C-unwind" fn in_aggregates(
    node: *mut pg_sys::Node,
    row: *mut c_void,
) -> *mut pg_sys::Node {
    // SAFETY: `row` is one, for the time of the call; nodes are those of a plan.
    unsafe {
        let Some(tag) = node.as_ref().map(|node| node.type_) else {
            return ptr::null_mut();
        };
        let inner = match tag {
            pg_sys::NodeTag::T_Aggref => replaced,
            _ => in_aggregates,
        };
        pg_sys::expression_tree_mutator_impl(node, Some(inner), row)
    }
}
