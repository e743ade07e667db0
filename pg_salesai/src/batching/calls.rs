//! Which calls may be made for many rows at once: those of a function in the schema `salesai` that has a twin by the same
//! name with `text[]` in the place of one `text`, which returns an array of what the function returns.

use std::ffi::{CStr, CString};

use pgrx::pg_catalog::pg_proc::PgProc;
use pgrx::pg_sys;

use super::rewriting::{columns_of, nodes};

/// Argument of the form for many documents that the one for a document lacks.
const ERROR_RATIO: &str = "max_error_ratio";
const TIMEOUT: &str = "timeout_ms";

/// The form of a function for many documents.
pub struct ArrayForm {
    pub oid: pg_sys::Oid,
    /// The place of the documents among its arguments.
    pub documents: usize,
    /// The place of the time limit.
    pub timeout: Option<usize>,
    /// Whether the last argument is the share of documents that may fail.
    pub has_error_ratio: bool,
    /// Whether the form for a document is NULL where an argument is.
    pub is_strict: bool,
}

impl ArrayForm {
    /// None where the function has none.
    pub fn of(function: pg_sys::Oid) -> Option<Self> {
        if function.to_u32() < pg_sys::FirstNormalObjectId {
            return None;
        }
        let name = own_name(function)?;
        let scalar = PgProc::new(function).filter(|scalar| !scalar.proretset())?;
        let types = scalar.proargtypes();
        let texts = (0..types.len()).filter(|&at| types[at] == pg_sys::TEXTOID);
        let (oid, documents) = texts
            .flat_map(|at| twins(&name, &types, at))
            .find(|&(twin, _)| returns_array(twin, scalar.prorettype()))?;
        let names = PgProc::new(oid)?.proargnames();
        let is = |at: usize, name: &str| names.get(at).and_then(Option::as_deref) == Some(name);
        Some(Self {
            oid,
            documents,
            timeout: (0..names.len()).find(|&at| is(at, TIMEOUT)),
            has_error_ratio: is(types.len(), ERROR_RATIO),
            is_strict: scalar.proisstrict(),
        })
    }
}

/// The name of a function of ours, and its schema.
fn own_name(function: pg_sys::Oid) -> Option<(CString, pg_sys::Oid)> {
    // SAFETY: both names are NULL or a text that ends with NUL.
    #[allow(unsafe_code)]
    unsafe {
        let schema = pg_sys::get_func_namespace(function);
        let schema_name = pg_sys::get_namespace_name(schema);
        if schema_name.is_null() || CStr::from_ptr(schema_name) != c"salesai" {
            return None;
        }
        let name = pg_sys::get_func_name(function);
        (!name.is_null()).then(|| (CStr::from_ptr(name).into(), schema))
    }
}

/// Functions by that name with `text[]` at that place, and perhaps a share of errors behind.
fn twins(
    (name, schema): &(CString, pg_sys::Oid),
    types: &[pg_sys::Oid],
    place: usize,
) -> impl Iterator<Item = (pg_sys::Oid, usize)> {
    let mut types = types.to_vec();
    types[place] = pg_sys::TEXTARRAYOID;
    let alone = lookup(name, *schema, &types);
    types.push(pg_sys::FLOAT8OID);
    let with_ratio = lookup(name, *schema, &types);
    [with_ratio, alone]
        .into_iter()
        .flatten()
        .map(move |oid| (oid, place))
}

/// Asks the catalog itself, since who plans may lack the right to look into the schema.
fn lookup(name: &CString, schema: pg_sys::Oid, types: &[pg_sys::Oid]) -> Option<pg_sys::Oid> {
    // SAFETY: there are as many types as it says; the keys are those of the cache.
    #[allow(unsafe_code)]
    let oid = unsafe {
        let count = i32::try_from(types.len()).ok()?;
        pg_sys::GetSysCacheOid(
            pg_sys::SysCacheIdentifier::PROCNAMEARGSNSP as i32,
            pg_sys::Anum_pg_proc_oid as pg_sys::AttrNumber,
            name.as_ptr().into(),
            pg_sys::buildoidvector(types.as_ptr(), count).into(),
            schema.into(),
            pg_sys::Datum::null(),
        )
    };
    (oid != pg_sys::InvalidOid).then_some(oid)
}

fn returns_array(twin: pg_sys::Oid, of: pg_sys::Oid) -> bool {
    // SAFETY: a look into the catalog.
    #[allow(unsafe_code)]
    unsafe {
        pg_sys::get_element_type(pg_sys::get_func_rettype(twin)) == of
    }
}

/// Adds to `found` the calls in an expression that are made for every row it is evaluated for, inner ones first: nothing
/// behind an `and`, `or`, `case` or `coalesce` that may skip it.
///
/// # Safety
/// The expression is one of a finished plan.
#[allow(unsafe_code)]
pub unsafe fn collect(expression: *mut pg_sys::Node, found: &mut Vec<*mut pg_sys::FuncExpr>) {
    // SAFETY: by the caller; a node is of the type that its tag says.
    unsafe {
        if expression.is_null() {
            return;
        }
        pg_sys::check_stack_depth();
        for part in always_evaluated(expression) {
            collect(part, found);
        }
        if (*expression).type_ == pg_sys::NodeTag::T_FuncExpr {
            let call: *mut pg_sys::FuncExpr = expression.cast();
            let is_known = found
                .iter()
                .any(|&known| pg_sys::equal(known.cast(), call.cast()));
            if !is_known && is_of_many(call) {
                found.push(call);
            }
        }
    }
}

/// Whether the call may be made for many rows: only its document differs among them.
#[allow(unsafe_code)]
unsafe fn is_of_many(call: *mut pg_sys::FuncExpr) -> bool {
    // SAFETY: by the caller.
    unsafe {
        let Some(form) = ArrayForm::of((*call).funcid) else {
            return false;
        };
        let arguments = nodes((*call).args);
        arguments.into_iter().enumerate().all(|(at, argument)| {
            let depends_on_row = !columns_of(argument).is_empty();
            match at == form.documents {
                true => depends_on_row,
                false => !depends_on_row && !pg_sys::contain_volatile_functions(argument),
            }
        })
    }
}

/// The parts of an expression that are evaluated whenever it is.
#[allow(unsafe_code)]
unsafe fn always_evaluated(expression: *mut pg_sys::Node) -> Vec<*mut pg_sys::Node> {
    use pg_sys::NodeTag::*;
    macro_rules! field {
        ($of:ident, $field:ident) => {
            (*expression.cast::<pg_sys::$of>()).$field
        };
    }
    // SAFETY: by the caller; a node is of the type that its tag says.
    unsafe {
        match (*expression).type_ {
            T_FuncExpr => nodes(field!(FuncExpr, args)),
            // The three are one type.
            T_OpExpr | T_DistinctExpr | T_NullIfExpr => nodes(field!(OpExpr, args)),
            T_ScalarArrayOpExpr => nodes(field!(ScalarArrayOpExpr, args)),
            T_MinMaxExpr => nodes(field!(MinMaxExpr, args)),
            T_ArrayExpr => nodes(field!(ArrayExpr, elements)),
            T_RowExpr => nodes(field!(RowExpr, args)),
            T_BoolExpr if field!(BoolExpr, boolop) == pg_sys::BoolExprType::NOT_EXPR => {
                nodes(field!(BoolExpr, args))
            }
            T_BoolExpr => first(field!(BoolExpr, args)),
            T_CoalesceExpr => first(field!(CoalesceExpr, args)),
            T_CaseExpr => match field!(CaseExpr, arg) {
                subject if !subject.is_null() => vec![subject.cast()],
                _ => first(field!(CaseExpr, args)),
            },
            T_CaseWhen => vec![field!(CaseWhen, expr).cast()],
            T_RelabelType => vec![field!(RelabelType, arg).cast()],
            T_CoerceViaIO => vec![field!(CoerceViaIO, arg).cast()],
            T_ArrayCoerceExpr => vec![field!(ArrayCoerceExpr, arg).cast()],
            T_CoerceToDomain => vec![field!(CoerceToDomain, arg).cast()],
            T_FieldSelect => vec![field!(FieldSelect, arg).cast()],
            T_NullTest => vec![field!(NullTest, arg).cast()],
            T_BooleanTest => vec![field!(BooleanTest, arg).cast()],
            T_SubscriptingRef => vec![field!(SubscriptingRef, refexpr).cast()],
            T_TargetEntry => vec![field!(TargetEntry, expr).cast()],
            _ => Vec::new(),
        }
    }
}

#[allow(unsafe_code)]
unsafe fn first(list: *mut pg_sys::List) -> Vec<*mut pg_sys::Node> {
    // SAFETY: by the caller, a list of nodes.
    unsafe { nodes(list).into_iter().take(1).collect() }
}
