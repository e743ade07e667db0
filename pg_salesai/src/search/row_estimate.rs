//! What the planner is told of a search before it runs.

use pgrx::pg_sys;

/// Where `k` is among the arguments.
const K: i32 = 1;

/// Answers a `SupportRequestRows` (`nodes/supportnodes.h`): at most `k` rows come. False for other requests, and where
/// `k` is known only when the search runs.
///
/// # Safety
/// `request` is the argument of a planner support function.
#[allow(unsafe_code)]
pub unsafe fn answer(request: *mut pg_sys::Node) -> bool {
    // SAFETY: the tag of a node says what it is; what is null is left alone.
    unsafe {
        if request.is_null() || (*request).type_ != pg_sys::NodeTag::T_SupportRequestRows {
            return false;
        }
        let request = &mut *request.cast::<pg_sys::SupportRequestRows>();
        if request.node.is_null() || (*request.node).type_ != pg_sys::NodeTag::T_FuncExpr {
            return false;
        }
        let arguments = (*request.node.cast::<pg_sys::FuncExpr>()).args;
        if pg_sys::list_length(arguments) <= K {
            return false;
        }
        let k = pg_sys::list_nth(arguments, K).cast::<pg_sys::Node>();
        let k = pg_sys::estimate_expression_value(request.root, k);
        if (*k).type_ != pg_sys::NodeTag::T_Const {
            return false;
        }
        let k = &*k.cast::<pg_sys::Const>();
        if k.constisnull {
            return false;
        }
        // An integer is its own datum.
        request.rows = f64::from((k.constvalue.value() as i32).max(1));
        true
    }
}
