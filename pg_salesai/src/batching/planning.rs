//! Which nodes of a plan get a batching node above them: those that compute a select list or a condition with a call that
//! may be made for many rows. It happens when the plan is finished, so the choice of the plan is PostgreSQL's.

use std::cell::Cell;
use std::ffi::{c_char, c_int};

use pgrx::{PgList, pg_sys, prelude::*};

use super::{aggregates, rewriting};
use crate::config;

thread_local! {
    static PREVIOUS: Cell<pg_sys::planner_hook_type> = const { Cell::new(None) };
}

// pgrx has it too, with errors turned into panics, which would lose their context.
#[allow(unsafe_code)]
unsafe extern "C-unwind" {
    fn standard_planner(
        query: *mut pg_sys::Query,
        text: *const c_char,
        options: c_int,
        parameters: pg_sys::ParamListInfo,
    ) -> *mut pg_sys::PlannedStmt;
}

pub fn register() {
    // SAFETY: the library is being loaded.
    #[allow(unsafe_code)]
    unsafe {
        PREVIOUS.set(pg_sys::planner_hook);
        pg_sys::planner_hook = Some(plan);
    }
}

/// It holds nothing that waits to be dropped, since an error passes it by a jump.
#[allow(unsafe_code)]
unsafe extern "C-unwind" fn plan(
    query: *mut pg_sys::Query,
    text: *const c_char,
    options: c_int,
    parameters: pg_sys::ParamListInfo,
) -> *mut pg_sys::PlannedStmt {
    // SAFETY: as PostgreSQL calls it.
    unsafe {
        let statement = match PREVIOUS.get() {
            Some(previous) => previous(query, text, options, parameters),
            None => standard_planner(query, text, options, parameters),
        };
        // A cursor that scrolls was given a plan that reads backwards.
        if options & pg_sys::CURSOR_OPT_SCROLL as c_int == 0 {
            rewrite(statement);
        }
        statement
    }
}

#[allow(unsafe_code)]
#[pg_guard]
unsafe extern "C-unwind" fn rewrite(statement: *mut pg_sys::PlannedStmt) {
    if !config::batch_operators() {
        return;
    }
    // SAFETY: the plan was just made, and is nobody else's.
    unsafe {
        (*statement).planTree = rewritten((*statement).planTree);
        rewrite_each((*statement).subplans);
    }
}

/// The plan, with batching nodes.
#[allow(unsafe_code)]
unsafe fn rewritten(plan: *mut pg_sys::Plan) -> *mut pg_sys::Plan {
    // SAFETY: by the caller, a part of a plan that was just made, or NULL.
    unsafe {
        if plan.is_null() {
            return plan;
        }
        pg_sys::check_stack_depth();
        rewrite_below(plan);
        if (*plan).type_ == pg_sys::NodeTag::T_Agg {
            aggregates::batch_arguments(plan);
        }
        match computes_itself(plan) {
            true => rewriting::batched(plan).unwrap_or(plan),
            false => plan,
        }
    }
}

#[allow(unsafe_code)]
unsafe fn rewrite_below(plan: *mut pg_sys::Plan) {
    use pg_sys::NodeTag::*;
    // SAFETY: by the caller; a node is of the type that its tag says.
    unsafe {
        (*plan).lefttree = rewritten((*plan).lefttree);
        match (*plan).type_ {
            T_MergeJoin => rewrite_marked((*plan).righttree),
            _ => (*plan).righttree = rewritten((*plan).righttree),
        }
        match (*plan).type_ {
            T_Append => rewrite_each((*plan.cast::<pg_sys::Append>()).appendplans),
            T_MergeAppend => rewrite_each((*plan.cast::<pg_sys::MergeAppend>()).mergeplans),
            T_SubqueryScan => {
                let scan: *mut pg_sys::SubqueryScan = plan.cast();
                (*scan).subplan = rewritten((*scan).subplan);
            }
            _ => {}
        }
    }
}

/// Below the side of a join that goes back to a marked row, which a batching node cannot; a Result hands that on.
#[allow(unsafe_code)]
unsafe fn rewrite_marked(plan: *mut pg_sys::Plan) {
    // SAFETY: by the caller, a part of a plan that was just made, or NULL.
    unsafe {
        match plan.as_ref().map(|plan| plan.type_) {
            None => {}
            Some(pg_sys::NodeTag::T_Result) => rewrite_marked((*plan).lefttree),
            Some(_) => rewrite_below(plan),
        }
    }
}

#[allow(unsafe_code)]
unsafe fn rewrite_each(plans: *mut pg_sys::List) {
    // SAFETY: by the caller, a list of plans, some of which may be NULL.
    unsafe {
        let mut plans = PgList::<pg_sys::Plan>::from_pg(plans);
        for at in 0..plans.len() {
            if let Some(plan) = plans.get_ptr(at) {
                plans.replace_ptr(at, rewritten(plan));
            }
        }
        // The list stays where it is.
        let _ = plans.into_pg();
    }
}

/// Whether the node computes its select list and its condition from rows that it reads, and from nothing else.
#[allow(unsafe_code)]
unsafe fn computes_itself(plan: *mut pg_sys::Plan) -> bool {
    use pg_sys::NodeTag::*;
    // SAFETY: by the caller; a node is of the type that its tag says.
    unsafe {
        match (*plan).type_ {
            T_SeqScan
            | T_SampleScan
            | T_IndexScan
            | T_IndexOnlyScan
            | T_BitmapHeapScan
            | T_TidScan
            | T_TidRangeScan
            | T_SubqueryScan
            | T_FunctionScan
            | T_ValuesScan
            | T_TableFuncScan
            | T_CteScan
            | T_NamedTuplestoreScan
            | T_WorkTableScan
            | T_NestLoop
            | T_MergeJoin
            | T_HashJoin
            | T_Agg
            | T_Group
            | T_Gather
            | T_GatherMerge => true,
            // Such a condition reads the select list by number.
            T_WindowAgg => (*plan.cast::<pg_sys::WindowAgg>()).runCondition.is_null(),
            // One that changes rows on another server makes none here.
            T_ForeignScan => {
                (*plan.cast::<pg_sys::ForeignScan>()).operation == pg_sys::CmdType::CMD_SELECT
            }
            T_Result => !(*plan).lefttree.is_null(),
            _ => false,
        }
    }
}
